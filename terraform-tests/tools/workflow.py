#!/usr/bin/env python3
"""Runs the commands of a GitHub workflow on this machine, as a runner would.

    workflow.py FILE REPOSITORY

The jobs run in their order, in the folder REPOSITORY. Of a step that `uses` an action only the name is told; a step
that `run`s something is run by bash with the variables of workflow, job and step. `${{ ... }}` may name vars (the
environment variables VAR_...), steps, needs and env. Ends with the exit code 1 at the first failure, after the steps
that run always.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml


def main(file: str, repository: str) -> int:
    workflow = yaml.safe_load(Path(file).read_text())
    needs: dict[str, dict[str, str]] = {}
    for name, job in workflow["jobs"].items():
        steps: dict[str, dict[str, str]] = {}
        known = {"steps": steps, "needs": needs}
        failed = False
        for step in job["steps"]:
            if "uses" in step:
                print(f"{name}: uses {step['uses']}", flush=True)
            elif not failed or step.get("if") == "always()":
                outputs, code = run_step(workflow, job, step, known, Path(repository))
                failed = failed or code != 0
                if "id" in step:
                    steps[step["id"]] = outputs
        if failed:
            return 1
        needs[name] = {key: fill(str(value), known) for key, value in job.get("outputs", {}).items()}
    return 0


def fill(text: str, known: dict) -> str:
    """Replaces the expressions that example workflows use; any other one is an error."""
    def value(match: re.Match) -> str:
        words = match.group(1).strip().split(".")
        if words[0] == "vars":
            return os.environ[f"VAR_{words[1]}"]
        if words[0] in ("steps", "needs") and words[2] == "outputs":
            return known[words[0]][words[1]][words[3]]
        raise SystemExit(f"unknown expression: {match.group(0)}")

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def run_step(workflow: dict, job: dict, step: dict, known: dict, repository: Path) -> tuple[dict[str, str], int]:
    defaults = job.get("defaults", {}).get("run", {})
    folder = repository / step.get("working-directory", defaults.get("working-directory", "."))
    env = dict(os.environ)
    for level in (workflow, job, step):
        env.update({key: fill(str(value), known) for key, value in level.get("env", {}).items()})
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        output.touch()
        env.update(GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=os.environ["SUMMARY"])
        print(f"run: {step.get('name', step['run'])}", flush=True)
        # As GitHub runs `run` where no shell is named.
        done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=folder, env=env, stdin=subprocess.DEVNULL)
        pairs = [line.split("=", 1) for line in output.read_text().splitlines() if "=" in line]
    return dict(pairs), done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
