"""Takes votes and puts them into the queue."""

import redis
from flask import Flask, request

app = Flask(__name__)
queue = redis.Redis(host="redis")

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Vote</title>
<h1>Cats or dogs?</h1>
<form method="post"><button name="vote" value="cats">Cats</button> <button name="vote" value="dogs">Dogs</button></form>
"""


@app.get("/")
def ask():
    return PAGE


@app.post("/")
def vote():
    choice = request.form["vote"]
    if choice not in ("cats", "dogs"):
        return "vote for cats or dogs\n", 400
    queue.rpush("votes", choice)
    return f"voted for {choice}\n"


@app.get("/healthz")
def healthz():
    queue.ping()
    return "ok\n"


app.run(host="0.0.0.0", port=80)
