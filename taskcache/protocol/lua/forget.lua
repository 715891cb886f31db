-- KEYS entry flight
-- ARGS envelope ttl_ms:int
-- REPLY 1 when an entry was there, else 0
-- An empty envelope deletes (bust); another one replaces (put). A flight that has not begun is left alone: it will compute afterwards.
if redis.call('HEXISTS', flight, 'stamps') == 1 then
  redis.call('HSET', flight, 'stamps', '')
end
local there = redis.call('EXISTS', entry)
if envelope == '' then
  redis.call('UNLINK', entry)
elseif ttl_ms > 0 then
  redis.call('SET', entry, envelope, 'PX', ttl_ms)
else
  redis.call('SET', entry, envelope)
end
return there
