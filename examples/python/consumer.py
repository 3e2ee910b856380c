"""Reads predictions, and the labels as they come, and prints how many of the predictions were right."""

import argparse
import json

from confluent_kafka import Consumer, KafkaError, KafkaException


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("--predictions", default="rooms-predictions", help="topic of the predictions")
    parser.add_argument("--labels", default="rooms-labels", help="topic of the labels")
    parser.add_argument("--group", default="rooms-consumer")
    parser.add_argument("--every", type=int, default=100, help="print once in so many labelled predictions")
    parser.add_argument("--stop-at-end", action="store_true", help="end where the topics do")
    arguments = parser.parse_args()

    consumer = Consumer({
        "bootstrap.servers": arguments.brokers,
        "group.id": arguments.group,
        # Perennial writes in transactions: what has not been committed, or never will be, does not count.
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    topics = [arguments.predictions, arguments.labels]
    metadata = consumer.list_topics(timeout=10)
    partitions = {(topic, partition) for topic in topics for partition in metadata.topics[topic].partitions}
    consumer.subscribe(topics)

    waiting, ended = {topic: {} for topic in topics}, set()
    right = labelled = 0
    while not (arguments.stop_at_end and ended == partitions):
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
            ended.add((message.topic(), message.partition()))
            continue
        value = json.loads(message.value())
        said = value["prediction" if message.topic() == arguments.predictions else "comfort"]
        # A prediction waits for its label, or the label for its prediction.
        other = topics[1 - topics.index(message.topic())]
        answer = waiting[other].pop(value["id"], None)
        if answer is None:
            waiting[message.topic()][value["id"]] = said
            continue
        labelled += 1
        right += said == answer
        if labelled % arguments.every == 0:
            print(f"{labelled} labelled predictions, {right} right: accuracy {right / labelled:.4f}", flush=True)
    consumer.close()
    print(f"{labelled} labelled predictions, {right} right: accuracy {right / max(labelled, 1):.4f}")


if __name__ == "__main__":
    main()
