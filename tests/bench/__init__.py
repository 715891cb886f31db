"""This is where speed is measured: taskcache, bare redis-py, Celery and other caches side by side, in one run."""
