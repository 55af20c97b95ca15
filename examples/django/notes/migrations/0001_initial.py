from django.conf import settings
from django.db import migrations, models
from django.db.models.deletion import CASCADE


class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel('Note', [
            ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
            ('text', models.TextField()),
            ('file', models.FileField(blank=True, upload_to='')),
            ('created', models.DateTimeField(auto_now_add=True)),
            ('author', models.ForeignKey(settings.AUTH_USER_MODEL, CASCADE, editable=False)),
        ]),
    ]
