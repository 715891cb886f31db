import asyncio, pytest, time
from tests.with_redis.test_cached_async_def import AsyncGate
from taskcache import Cache, events
@pytest.mark.parametrize("n", range(60))
async def test_it(redis_url, cache_name, n):
    with Cache(redis_url, name=cache_name, default_timeout=60) as cache:
        gate = AsyncGate()
        f = cache.cached()(gate.pass_first)
        t=time.monotonic()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(f(), 0.005 + n%10*0.005)
        t1=time.monotonic()
        gate.opened.set()
        v = await f()
        assert (1, 1) == (v, gate.visits), (t1-t, time.monotonic()-t1, f.stats())
