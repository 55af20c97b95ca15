from django.conf import settings
from django.db import models


class Note(models.Model):
    text = models.TextField()
    file = models.FileField(blank=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, editable=False)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.text[:40]
