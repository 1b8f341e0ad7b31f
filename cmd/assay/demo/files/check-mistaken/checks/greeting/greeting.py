"""Greets a few people with hello and tells how it went, one result for each."""

import json
import subprocess

GREETINGS = {
    "greets-the-world": ([], "Hello, world!"),
    "greets-by-name": (["Ada"], "Hello, Ada!"),
    "greets-with-spaces": (["Ada Lovelace"], "Hello, Ada Lovelace!"),
}


def greet(program, transcript):
    results = []
    with open(transcript, "w") as log:
        for name, (args, want) in GREETINGS.items():
            got = subprocess.run(
                ["sh", program, *args], stdout=subprocess.PIPE, text=True
            ).stdout.strip()
            print(f"hello {args}: {got!r}, expected {want!r}", file=log)
            print(f"{name}: {got}")
            results.append(
                {
                    "checkname": f"greeting.{name}",
                    "outcome": "PASSED" if got == want else "FAILED",
                    "note": f"said {got!r}, expected {want!r}",
                    "artifact": "transcript.txt",
                }
            )
    return json.dumps({"results": results})
