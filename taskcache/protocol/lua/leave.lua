-- KEYS flight retired outcome
-- ARGS token inbox envelope linger_ms:int
-- REPLY gone | others | running | ended
-- The last waiter goes. Unclaimed: the flight ends as cancelled. Running: nobody new may join what is about to be revoked.
local at = redis.call('HGET', flight, 'token') == token and flight or retired
local state = redis.call('HGET', at, 'state')
if not state then return 'gone' end
redis.call('HDEL', at, 'w:' .. inbox)
for _, field in ipairs(redis.call('HKEYS', at)) do
  if field:sub(1, 2) == 'w:' then return 'others' end
end
if state == 'running' then
  redis.call('HSET', at, 'stamps', '')
  return 'running'
end
redis.call('SET', outcome, envelope, 'PX', linger_ms)
redis.call('DEL', at)
return 'ended'
