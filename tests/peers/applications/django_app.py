"""A Django project in one file: its admin, a form with messages, an upload, static files; over WSGI and over ASGI.

`python django_app.py` makes its database in the folder LIBRARY, with the user `ada`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import django
from django.conf import settings

DATABASE = os.environ["LIBRARY"] + "/library.sqlite3"
PASSWORD = "difference engine"
PAGE = """<!doctype html><title>Library</title>{% load static %}
<link rel="stylesheet" href="{% static 'admin/css/base.css' %}">
{% for message in messages %}<p>{{ message }}</p>{% endfor %}
<form method="post" action="{% url 'lend' %}">{% csrf_token %}{{ form.as_p }}</form>
<a href="{% url 'admin:index' %}">admin</a>
"""

settings.configure(
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE, "OPTIONS": {"timeout": 20}}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a slow one is of no use here
    INSTALLED_APPS=[
        f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["stderr"], "level": "ERROR"}},
    },
)
django.setup()

from django import forms  # noqa: E402  (what needs settings comes after them)
from django.contrib import admin, messages  # noqa: E402
from django.contrib.staticfiles.views import serve  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.shortcuts import redirect  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402


class Loan(forms.Form):
    book = forms.CharField(max_length=40)
    until = forms.DateField()


def lend(request: HttpRequest) -> HttpResponse:
    form = Loan(request.POST or None)
    if form.is_valid():
        messages.success(request, f"{form.cleaned_data['book']} is yours until {form.cleaned_data['until']}")
        return redirect("lend")
    return HttpResponse(engines["django"].from_string(PAGE).render({"form": form}, request))


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    file: Any = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return JsonResponse({"note": request.POST["note"], "name": file.name, "bytes": file.size, "sha256": digest.hexdigest(),
                         "kept": type(file).__name__})  # fmt: skip


def told(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"path": request.path, "path_info": request.path_info, "query": request.GET["q"],
                         "url": request.build_absolute_uri(), "address": request.META["REMOTE_ADDR"]})  # fmt: skip


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[bytes]:
        for number in range(100):
            yield b"line %d\n" % number

    return StreamingHttpResponse(lines(), content_type="text/plain")


def fail(request: HttpRequest) -> HttpResponse:
    raise LookupError("the book is lost")


urlpatterns = [
    path("", lend, name="lend"),
    path("upload", upload),
    path("told/<str:word>", lambda request, word: told(request)),
    path("stream", stream),
    path("fail", fail),
    path("files/<path:path>", serve, {"insecure": True}),
    path("admin/", admin.site.urls),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()

if __name__ == "__main__":
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ada", "ada@example.org", PASSWORD)
