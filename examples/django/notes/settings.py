from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
VAR = BASE / 'var'      # all that the site writes; mode 700

# Made once: (umask 077; openssl rand -base64 48 >var/secret)
SECRET_KEY = (VAR / 'secret').read_text()
ALLOWED_HOSTS = ['www.example.com', 'www.example.net']
# With HTTPS alone, as it should be:
# SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

INSTALLED_APPS = [
    'django.contrib.admin',
    'django.contrib.auth',
    'django.contrib.contenttypes',
    'django.contrib.messages',
    'django.contrib.sessions',
    'django.contrib.staticfiles',
    'notes',
]
MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'django.contrib.sessions.middleware.SessionMiddleware',
    'django.middleware.common.CommonMiddleware',
    'django.middleware.csrf.CsrfViewMiddleware',
    'django.contrib.auth.middleware.AuthenticationMiddleware',
    'django.contrib.messages.middleware.MessageMiddleware',
    'django.middleware.clickjacking.XFrameOptionsMiddleware',
]
TEMPLATES = [{
    'BACKEND': 'django.template.backends.django.DjangoTemplates',
    'APP_DIRS': True,
    'OPTIONS': {'context_processors': [
        'django.template.context_processors.request',
        'django.contrib.auth.context_processors.auth',
        'django.contrib.messages.context_processors.messages',
    ]},
}]
ROOT_URLCONF = 'notes.urls'
LOGIN_URL = 'login'
LOGIN_REDIRECT_URL = 'index'
USE_TZ = True

DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': VAR / 'db.sqlite3', 'OPTIONS': {'timeout': 20}}}
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'

# Uploads go beside the database, and nobody gets them but through a view. Big ones are there while they come in, too.
MEDIA_ROOT = VAR / 'files'
FILE_UPLOAD_TEMP_DIR = VAR

# Apache serves these. Without a slash in front it is below the SCRIPT_NAME.
STATIC_URL = 'static/'
STATIC_ROOT = BASE.parent / 'www/static'

# Without this an exception is a 500 of which nobody is told why: to the web server's error log.
LOGGING = {
    'version': 1,
    'disable_existing_loggers': False,
    'handlers': {'stderr': {'class': 'logging.StreamHandler'}},
    'root': {'handlers': ['stderr'], 'level': 'WARNING'},
}
