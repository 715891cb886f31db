"""This is where the Celery applications are that the workers of these tests import."""

# What `celery -A` takes.
SHOP = "tests.with_celery.apps.shop"
