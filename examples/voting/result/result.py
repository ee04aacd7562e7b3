"""Shows the count of votes."""

import psycopg2
from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def result():
    with psycopg2.connect("host=db user=postgres password=postgres") as db, db.cursor() as cur:
        cur.execute("SELECT to_regclass('vote') IS NOT NULL")
        if not cur.fetchone()[0]:
            return jsonify({})
        cur.execute("SELECT choice, count(*) FROM vote GROUP BY choice ORDER BY choice")
        return jsonify(dict(cur.fetchall()))


@app.get("/healthz")
def healthz():
    return "ok\n"


app.run(host="0.0.0.0", port=80)
