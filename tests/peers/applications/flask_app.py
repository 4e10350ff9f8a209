"""A Flask application as people write them: forms, files, a session, links; it does not know where it is mounted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, redirect, render_template_string, request, send_from_directory, session, url_for

application = Flask(__name__)
application.secret_key = "for tests"

FORM = """<!doctype html><title>Orders</title>
<form method="post" action="{{ url_for('order') }}"><input name="what" value="{{ what }}"></form>
<a href="{{ url_for('item', number=7, size='l & xl') }}">seven</a>
"""


@application.route("/", methods=["GET", "POST"])
def order() -> Any:
    if request.method == "POST":
        session["what"] = request.form["what"]
        return redirect(url_for("ordered"))
    return render_template_string(FORM, what=request.args.get("what", ""))


@application.route("/ordered")
def ordered() -> str:
    if "what" not in session:
        abort(403)
    return f"You ordered {session['what']}."


@application.route("/item/<int:number>")
def item(number: int) -> dict[str, Any]:
    return {
        "number": number, "size": request.args.get("size"), "url": request.url, "root": request.root_url,
        "script_root": request.script_root, "path": request.path, "link": url_for("item", number=number, _external=True),
        "address": request.remote_addr,
    }  # fmt: skip


@application.route("/name/<name>")
def name(name: str) -> str:
    return f"<{name}> " + url_for("name", name=name)


@application.route("/upload", methods=["POST"])
def upload() -> dict[str, Any]:
    file = request.files["file"]
    octets = file.read()
    return {"note": request.form["note"], "name": file.filename, "type": file.content_type, "bytes": len(octets),
            "sha256": hashlib.sha256(octets).hexdigest()}  # fmt: skip


@application.route("/json", methods=["PUT"])
def replace() -> Any:
    return {"was": request.get_json()}, 201, {"X-Made": "yes"}


@application.route("/stream")
def stream() -> Response:
    def lines() -> Iterator[str]:
        for number in range(100):
            yield f"line {number} with ü\n"

    return Response(lines(), mimetype="text/plain")


@application.route("/file")
def file() -> Response:
    return send_from_directory(Path(__file__).parent, Path(__file__).name, mimetype="text/x-python")


@application.route("/fail")
def fail() -> str:
    raise LookupError("nothing in store")
