"""This is where a Celery worker takes part: it claims flights, keeps their leases, computes and publishes."""
