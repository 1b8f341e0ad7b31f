"""Renders a report of results from a Jinja2 template, for create_report.

Standard input is JSON: template, output, artifactsdir, base, and results, or
file, the path of a file with ResultYAML. Everything is escaped as for HTML.
"""
import json
import os
import sys


def fail(why):
    sys.stderr.write("create_report: cannot %s\n" % why)
    sys.exit(1)


def read(name):
    try:
        import yaml
    except ImportError:
        fail("read a results file for a template without PyYAML: add python3-yaml (deb) or python3-pyyaml (rpm) to environment, or use results: instead of file:")
    try:
        with open(name, encoding="utf-8") as f:
            loaded = yaml.safe_load(f)
        found = loaded["results"] or []
    except (OSError, yaml.YAMLError, KeyError, TypeError) as e:
        fail("read the results in %s: %s" % (name, e))
    return [r for r in found if isinstance(r, dict)]


def entry(result, order):
    found = {
        "checkname": result.get("checkname") or order["checkname"],
        "outcome": result.get("outcome") or "NEEDS_INSPECTION",
        "note": result.get("note") or "---",
        "item": result.get("item") or order["item"],
        "type": result.get("type") or order["type"],
        "artifact": None,
    }
    if found["checkname"].startswith("."):
        found["checkname"] = order["checkname"] + found["checkname"]
    if result.get("artifact"):
        path = os.path.join(order["artifactsdir"], result["artifact"])
        found["artifact"] = os.path.relpath(path, os.path.dirname(order["output"]))
    return found


def main():
    order = json.load(sys.stdin)
    try:
        import jinja2
    except ImportError:
        fail("use a template without Jinja2: add python3-jinja2 to environment, or leave template out")
    results = order.get("results")
    if results is None:
        results = read(order["file"])
    try:
        loader = jinja2.FileSystemLoader(order["base"])
        environment = jinja2.Environment(loader=loader, autoescape=True)
        template = environment.get_template(order["template"])
        text = template.render(results=[entry(r, order) for r in results], artifactsdir=order["artifactsdir"])
    except (jinja2.TemplateError, OSError) as e:
        fail("render %s: %s: %s" % (order["template"], type(e).__name__, e))
    directory = os.path.dirname(order["output"])
    os.makedirs(directory, exist_ok=True)
    with open(order["output"], "w", encoding="utf-8") as f:
        f.write(text)


main()
