"""Moves votes from the queue into the database."""

import psycopg2
import redis

queue = redis.Redis(host="redis")
db = psycopg2.connect("host=db user=postgres password=postgres")
with db, db.cursor() as cur:
    cur.execute("CREATE TABLE IF NOT EXISTS vote (id serial PRIMARY KEY, choice text NOT NULL)")
print("counting", flush=True)
while True:
    _, choice = queue.blpop("votes")
    with db, db.cursor() as cur:
        cur.execute("INSERT INTO vote (choice) VALUES (%s)", (choice.decode(),))
    print("counted", choice.decode(), flush=True)
