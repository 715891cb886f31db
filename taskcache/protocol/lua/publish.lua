-- KEYS entry flight retired outcome
-- ARGS token owner envelope ttl_ms:int linger_ms:int inline_bytes:int
-- REPLY stored | delivered | kept | refused | ended
-- ttl_ms 0: do not store (an error, or `store_if=`); -1: for ever.
if redis.call('EXISTS', outcome) == 1 then return 'ended' end
local live = redis.call('HGET', flight, 'token') == token
local at = live and flight or retired
local seen = redis.call('HMGET', at, 'token', 'owner', 'stamps', 'state')
local there, holder, stamps = seen[1], seen[2] or '', seen[3] or ''
-- Without an owner anybody may fail what nobody computes: unclaimed, or given back for a retry (tests/model, H28).
if there and holder ~= owner and (owner ~= '' or seen[4] == 'running') then return 'refused' end
local stores = live and stamps ~= '' and ttl_ms ~= 0
if stores then
  if ttl_ms > 0 then
    redis.call('SET', entry, envelope, 'PX', ttl_ms)
  else
    redis.call('SET', entry, envelope)
  end
end
-- Empty means: look at the entry. It must outlive the last watchdog, else the value itself stays here.
local lasts = stores and (ttl_ms < 0 or ttl_ms >= linger_ms)
redis.call('SET', outcome, lasts and '' or envelope, 'PX', linger_ms)
if not there then return 'kept' end
local inboxes = {}
for _, field in ipairs(redis.call('HKEYS', at)) do
  if field:sub(1, 2) == 'w:' then inboxes[#inboxes + 1] = field:sub(3) end
end
local message = token .. (#envelope * #inboxes <= inline_bytes and envelope or '')
for _, inbox in ipairs(inboxes) do redis.call('PUBLISH', inbox, message) end
redis.call('DEL', at)
return stores and 'stored' or 'delivered'
