"""Checks the recorded exchanges of host/edc with a JSON-LD processor that is not the host's: what requests and answers expand to."""

import json
import pathlib
import sys

from pyld import jsonld

ROOT = pathlib.Path(__file__).resolve().parents[2] / "host" / "edc"
CONTEXTS = ROOT / "contexts"
INDEX = json.loads((CONTEXTS / "index.json").read_text())
INJECTED = json.loads((CONTEXTS / "injected.jsonld").read_text())


def load(url, options):
    """Loads a context that the host knows. Nothing is fetched."""
    document = json.loads((CONTEXTS / INDEX[url]).read_text())
    return {"contentType": "application/ld+json", "contextUrl": None, "documentUrl": url, "document": document}


BASE = "http://base.invalid/"


def expand(document, **options):
    return without_base(jsonld.expand(document, {"base": BASE, "documentLoader": load, **options}))


def without_base(value):
    """Leaves relative what is relative, as {"@id": "HttpData"}: messages have no base, which PyLD cannot do without."""
    if isinstance(value, list):
        return [without_base(item) for item in value]
    if isinstance(value, dict):
        return {k: v.removeprefix(BASE) if k == "@id" else without_base(v) for k, v in value.items()}
    return value


def main():
    checked, failed = 0, 0
    files = sorted((ROOT / "testdata").glob("*.json"))
    for file in files:
        for exchange in json.loads(file.read_text())["exchanges"]:
            # A request is read with EDC's context before its own, an answer has to be whole by itself.
            for what, meaning, options in (("request", "expanded", {"expandContext": INJECTED}), ("answer", "answerExpanded", {})):
                if meaning not in exchange:
                    continue
                checked += 1
                got = expand(exchange[what], **options)
                if got != exchange[meaning]:
                    failed += 1
                    print(f"{file.name}: {exchange['name']}: the {what} means {json.dumps(got)}, not {json.dumps(exchange[meaning])}")
    if checked == 0:
        sys.exit("there is nothing to check")
    if failed:
        sys.exit(f"{failed} of {checked} documents mean something else")
    print(f"{checked} documents of {len(files)} files mean what is recorded")


if __name__ == "__main__":
    main()
