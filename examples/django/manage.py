#!/usr/bin/python3
"""Django's commands, such as "migrate". To be called as the site's user: runuser -u alice -- ./manage.py migrate"""
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'notes.settings')
execute_from_command_line(sys.argv)
