import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'notes.settings')
application = get_wsgi_application()

# Django would do it with the first request. Now it is done once for all workers of a fork server.
from . import urls  # noqa: E402,F401
