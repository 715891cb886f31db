-- KEYS entry flight retired own_retired own_outcome
-- ARGS token seen stamps outdated inbox owner lease_ms:int resend_ms:int
-- REPLY hit envelope | follow token | outdated token | lead token now_ms
-- `retired` is the name for `outdated`; `owner` is empty when a queue will run it. Time is the server's.
local id = redis.pcall('GETRANGE', entry, 0, 17)
if type(id) == 'table' then
  -- Of another type, so nobody of us wrote it: publish replaces it.
  if not id.err:find('WRONGTYPE', 1, true) then return id end
  id = ''
end
if id ~= '' and id ~= seen then
  return {'hit', redis.call('GET', entry)}
end
local flying = redis.call('HMGET', flight, 'token', 'stamps')
local live, begun = flying[1], flying[2]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- A repeat whose first reply was lost: a token is elected once, and hears the same again (tests/model, H26).
if live == token or redis.call('EXISTS', own_retired, own_outcome) > 0 then
  return {'lead', token, tostring(now_ms)}
end
-- A flight that has not begun computes after every invalidation up to now: anybody may join it.
if live and (not begun or begun == stamps) then
  if inbox ~= '' then redis.call('HSET', flight, 'w:' .. inbox, 1) end
  return {'follow', live}
end
-- The stamps may be older than the flight's. Only a caller that re-read them after seeing this token may displace it.
if live and live ~= outdated then
  return {'outdated', live}
end
if live then redis.call('RENAME', flight, retired) end
if owner == '' then
  redis.call('HSET', flight, 'token', token, 'state', 'queued', 'resend_at', now_ms + resend_ms)
else
  redis.call('HSET', flight, 'token', token, 'state', 'running', 'owner', owner, 'stamps', stamps)
end
if inbox ~= '' then redis.call('HSET', flight, 'w:' .. inbox, 1) end
redis.call('PEXPIRE', flight, lease_ms)
return {'lead', token, tostring(now_ms)}
