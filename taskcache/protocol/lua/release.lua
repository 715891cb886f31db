-- KEYS flight retired
-- ARGS token owner in_ms:int queued_ms:int resend_ms:int
-- REPLY released | refused
-- The owner stays on record, so it can still publish when the retry itself cannot be sent.
local at = redis.call('HGET', flight, 'token') == token and flight or retired
if redis.call('HGET', at, 'owner') ~= owner then return 'refused' end
local time = redis.call('TIME')
local due_ms = time[1] * 1000 + math.floor(time[2] / 1000) + in_ms
redis.call('HSET', at, 'state', 'retrying', 'due_ms', due_ms, 'resend_at', due_ms + resend_ms)
redis.call('PEXPIRE', at, in_ms + queued_ms)
return 'released'
