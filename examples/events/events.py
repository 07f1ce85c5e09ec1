"""Prints certctl's events as they come: the example main.go in Python.

    pip install "nats-py[nkeys]"
    certctl events credentials create printer --subjects certificate.certificate_issued -o json > reader.json
    python3 events.py reader.json ca.crt
"""

import asyncio
import json
import ssl
import sys
import tempfile

import nats


async def main(reader_file: str, ca: str) -> None:
    with open(reader_file, encoding="utf-8") as file:
        reader = json.load(file)
    inbox = "_INBOX." + reader["id"]
    # The library reads credentials from a file, which only its owner may read.
    with tempfile.NamedTemporaryFile("w", suffix=".creds") as creds:
        creds.write(reader["credentials"])
        creds.flush()
        connection = await nats.connect(
            reader["urls"],
            user_credentials=creds.name,
            tls=ssl.create_default_context(cafile=ca),
            tls_handshake_first=True,
            inbox_prefix=inbox,
            max_reconnect_attempts=-1,
        )
        stream = connection.jetstream(prefix=reader["api_prefix"])
        consumer = await stream.pull_subscribe_bind(
            reader["consumer"], reader["stream"], inbox_prefix=(inbox + ".").encode()
        )
        while True:
            try:
                messages = await consumer.fetch(100, timeout=30)
            except nats.errors.TimeoutError:
                continue
            for message in messages:
                print(message.headers["ce-id"], message.data.decode(), flush=True)
                await message.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
