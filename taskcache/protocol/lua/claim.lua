-- KEYS flight retired outcome beside...
-- ARGS token owner stamps lease_ms:int inline:int again:int
-- REPLY run stamps now_ms | ended | superseded | gone | taken left_ms | early left_ms | unstamped
-- `beside` are the keys of the stamps, where a script can read them: not in a Cluster, whose slots keep them apart.
if redis.call('EXISTS', outcome) == 1 then return {'ended'} end
local live = redis.call('HGET', flight, 'token')
local at = live == token and flight or retired
local seen = redis.call('HMGET', at, 'state', 'owner', 'due_ms', 'stamps')
local state, holder, due_ms = seen[1], seen[2], tonumber(seen[3] or 0)
if not state then
  return {live and 'superseded' or 'gone'}
end
if state == 'running' and holder ~= owner then
  return {'taken', tostring(redis.call('PTTL', at))}
end
-- The first attempt's claim was lost in a failover, and with it what was invalidated since: no retry begins a flight (H32).
if again == 1 and not seen[4] then return {'gone'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if inline == 1 and now_ms < due_ms then
  return {'early', tostring(due_ms - now_ms)}
end
if stamps == '' then
  for _, key in ipairs(beside) do
    local one = redis.pcall('GET', key)
    if type(one) ~= 'string' or #one ~= 12 then return {'unstamped'} end
    stamps = stamps .. one
  end
end
-- A second attempt keeps the first one's stamps: its arguments may come from work done before an invalidation.
redis.call('HSETNX', at, 'stamps', stamps)
redis.call('HSET', at, 'state', 'running', 'owner', owner, 'started_ms', now_ms)
redis.call('PEXPIRE', at, lease_ms)
return {'run', redis.call('HGET', at, 'stamps'), tostring(now_ms)}
