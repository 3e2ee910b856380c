"""Sends readings of the sensors of some rooms to one topic, and what people there said of them, a little later, to
another: labels that Perennial joins with their samples by the id."""

import argparse
import json
import random
from collections import deque

from confluent_kafka import Producer


def reading(number, chance):
    """A sample as Perennial's schema in rooms.yaml names its columns, and its label."""
    room = chance.randrange(6)
    season = "summer" if room < 3 else "winter"
    temperature = round(chance.gauss(24, 3), 2)
    humidity = round(chance.uniform(30, 70), 1)
    felt = temperature + humidity / 50 - (25 if season == "summer" else 23)
    sample = {
        "id": f"reading-{number}",
        "time": 1_700_000_000 + 60 * number,
        "room": f"room-{room}",
        "season": season,
        "temperature": temperature,
        # A sensor that says nothing.
        "humidity": humidity if chance.random() < 0.97 else None,
    }
    return sample, "cold" if felt < -1 else "hot" if felt > 2 else "fine"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--samples", default="rooms-samples", help="topic of the samples")
    parser.add_argument("--labels", default="rooms-labels", help="topic of the labels")
    parser.add_argument("--count", type=int, default=900, help="how many readings")
    parser.add_argument("--behind", type=int, default=20, help="readings that go before the label of an earlier one")
    arguments = parser.parse_args()

    # Equal keys go to equal partitions, as with Java's clients, so that a label is where its sample is.
    settings = {"bootstrap.servers": arguments.brokers, "partitioner": "murmur2_random", "enable.idempotence": True}
    producer = Producer(settings)
    failures = []

    def send(topic, room, message):
        producer.produce(
            topic,
            key=room,
            value=json.dumps(message),
            on_delivery=lambda error, _: error and failures.append(error),
        )
        producer.poll(0)

    chance = random.Random(1)
    waiting = deque()
    for number in range(arguments.count):
        sample, label = reading(number, chance)
        send(arguments.samples, sample["room"], sample)
        waiting.append((sample["room"], {"id": sample["id"], "comfort": label}))
        if len(waiting) > arguments.behind:
            send(arguments.labels, *waiting.popleft())
    for room, label in waiting:
        send(arguments.labels, room, label)
    producer.flush()
    if failures:
        raise SystemExit(f"{len(failures)} messages could not be delivered: {failures[0]}")
    print(f"sent {arguments.count} readings and their labels")


if __name__ == "__main__":
    main()
