-- KEYS flight retired outcome
-- ARGS token inbox queued_ms:int resend_ms:int sent:int
-- REPLY ended envelope | gone | flying state progress left_ms | resend state progress left_ms
-- `sent` is 1 from the leader that has sent the message, 0 from who could send it again, -1 from who could not: it takes no turn.
local ended = redis.call('GET', outcome)
if ended then return {'ended', ended} end
local at = redis.call('HGET', flight, 'token') == token and flight or retired
local seen = redis.call('HMGET', at, 'state', 'resend_at', 'progress')
local state, resend_at, progress = seen[1], seen[2], seen[3] or ''
if not state then return {'gone'} end
redis.call('HSET', at, 'w:' .. inbox, 1)
if state == 'running' then return {'flying', state, progress, tostring(redis.call('PTTL', at))} end
redis.call('PEXPIRE', at, queued_ms, 'GT')
local left_ms = tostring(redis.call('PTTL', at))
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if sent == 1 and state == 'queued' then
  -- What was claimed since and given back is another message's turn: it is due when its worker has said.
  redis.call('HSET', at, 'resend_at', now_ms + resend_ms)
elseif sent >= 0 and now_ms >= tonumber(resend_at or 0) then
  redis.call('HSET', at, 'resend_at', now_ms + resend_ms)
  return {'resend', state, progress, left_ms}
end
return {'flying', state, progress, left_ms}
