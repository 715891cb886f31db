"""This is where calls are sent to whatever computes them: Celery workers, or this user's own local one."""
