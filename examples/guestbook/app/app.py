"""A guest book: entries in PostgreSQL, a visit counter in Redis."""

import os
from pathlib import Path

import psycopg2
import redis
from flask import Flask, redirect, render_template_string, request

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["CACHE"])

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Guest book</title>
<h1>Guest book</h1>
<p>Visits: {{ visits }}</p>
<form method="post">
  <input name="name" placeholder="Name" maxlength="80" required>
  <input name="message" placeholder="Message" maxlength="400" required>
  <button>Sign</button>
</form>
<ul>{% for name, message in entries %}
  <li><b>{{ name }}</b>: {{ message }}</li>{% endfor %}
</ul>
"""


def connect():
    password = Path(os.environ["DATABASE_PASSWORD_FILE"]).read_text().strip()
    return psycopg2.connect(os.environ["DATABASE"], password=password)


@app.get("/")
def read():
    with connect() as db, db.cursor() as cur:
        cur.execute("SELECT name, message FROM entry ORDER BY id DESC LIMIT 50")
        return render_template_string(PAGE, entries=cur.fetchall(), visits=cache.incr("visits"))


@app.post("/")
def sign():
    with connect() as db, db.cursor() as cur:
        cur.execute(
            "INSERT INTO entry (name, message) VALUES (%s, %s)",
            (request.form["name"][:80], request.form["message"][:400]),
        )
    return redirect("/")


@app.get("/healthz")
def healthz():
    with connect() as db, db.cursor() as cur:
        cur.execute("SELECT 1")
    cache.ping()
    return "ok\n"
