from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import models, views

admin.site.register(models.Note)

urlpatterns = [
    path('', views.index, name='index'),
    path('files/<int:number>', views.download, name='download'),
    path('export', views.export, name='export'),
    path('login', LoginView.as_view(template_name='notes.html'), name='login'),
    path('logout', LogoutView.as_view(next_page='login'), name='logout'),
    path('admin/', admin.site.urls),
]
