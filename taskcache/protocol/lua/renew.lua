-- KEYS flight retired outcome
-- ARGS token owner lease_ms:int held:int progress
-- REPLY live | retired | unowned | ended | gone | asserted
if redis.call('EXISTS', outcome) == 1 then return 'ended' end
local live = redis.call('HGET', flight, 'token') == token
local at = live and flight or retired
local seen = redis.call('HMGET', at, 'state', 'owner')
if seen[1] == 'running' and seen[2] == owner then
  -- First, and not only in time: a full server refuses a script whose first write takes memory, and PEXPIRE takes none.
  redis.call('PEXPIRE', at, lease_ms)
  if progress ~= '' then redis.call('HSET', at, 'progress', progress) end
  return live and 'live' or 'retired'
end
if seen[1] then return 'unowned' end
if held == 0 then return 'gone' end
-- The server lost the flight under its holder. A forget may be lost with it: come back for the old waiters only.
redis.call('HSET', retired, 'token', token, 'state', 'running', 'owner', owner, 'stamps', '')
redis.call('PEXPIRE', retired, lease_ms)
return 'asserted'
