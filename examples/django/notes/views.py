from django.contrib.auth.decorators import login_required
from django.forms import modelform_factory
from django.http import FileResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from .models import Note

NoteForm = modelform_factory(Note, fields=['text', 'file'])


@login_required
def index(request):
    form = NoteForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        form.instance.author = request.user
        form.save()
        return redirect('index')
    return render(request, 'notes.html', {'form': form, 'notes': Note.objects.order_by('-id')[:100]})


@login_required
def download(request, number):
    note = get_object_or_404(Note.objects.exclude(file=''), id=number)
    return FileResponse(note.file.open(), as_attachment=True)


@login_required
def export(request):
    """All notes, each sent as soon as it has been read from the database."""
    lines = ('%d %s %r\n' % (n.id, n.author, n.text) for n in Note.objects.select_related('author').iterator())
    return StreamingHttpResponse(lines, content_type='text/plain; charset=utf-8')
