"""How close are synthetic tables to real ones, by the protocol of the TabSyn and TabDiff papers?

    python benchmarks/tables.py adult --data FOLDER [--minutes 5] [--minutes default] [--seed 0]

Fits a `TableModel` on the training rows for each budget, samples as many rows, and prints every metric beside the
floor (the real test rows in place of synthetic ones) and the ceiling (training columns shuffled independently).
Results go to benchmarks/results/ as JSON and Markdown, with the command and the machine.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import clarkia as ck
from clarkia.measures import MixedRows, Target, tabsyn_2024
from clarkia.measures.marginals import shape_errors
from clarkia.measures.tabsyn import tstr, tstr_score

RESULTS = Path(__file__).parent / "results"

# Target and categorical columns as the papers take them; all others are numeric.
PROTOCOL = {
    "adult": ("income", []),
    "default": (
        "default.payment.next.month",
        ["SEX", "EDUCATION", "MARRIAGE", "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"],
    ),
    "shoppers": ("Revenue", ["OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType", "Weekend"]),
}


def read(name: str, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows: the official split of Adult, else 90/10 by NumPy's seed 1234."""
    if name == "adult":
        return pd.read_csv(folder / "adult_train.csv.gz"), pd.read_csv(folder / "adult_test.csv.gz")
    frame = pd.read_csv(folder / f"{name}.csv.gz")
    order = np.random.RandomState(1234).permutation(len(frame))
    cut = int(0.9 * len(frame))
    return frame.iloc[order[:cut]].reset_index(drop=True), frame.iloc[order[cut:]].reset_index(drop=True)


class Judge:
    """The protocol on one data set: numbers as they are, categories as codes, -1 where a cell is missing."""

    def __init__(self, name: str, train: pd.DataFrame, test: pd.DataFrame):
        self.train, self.test = train, test
        self.target, declared = PROTOCOL[name]
        text = [column for column in train if not pd.api.types.is_numeric_dtype(train[column])]
        self.categorical = list(dict.fromkeys([*declared, *text, self.target]))
        self.numeric = [column for column in train if column not in self.categorical]
        self.values = {name: pd.concat([train[name], test[name]]).dropna().unique() for name in self.categorical}
        self.position = Target(self.categorical.index(self.target))
        self.utility = tstr_score(tstr(self.code(train), self.code(test), self.position))

    def code(self, frame: pd.DataFrame) -> MixedRows:
        codes = [pd.Categorical(frame[name], categories=self.values[name]).codes for name in self.categorical]
        return MixedRows.build(frame[self.numeric].to_numpy(float), np.stack(codes, 1).astype(np.int64))

    def scores(self, synthetic: pd.DataFrame) -> dict[str, float]:
        """Figures in the units of the papers: errors in percent, AUC points lost, shares in percent."""
        parts = (self.code(frame) for frame in (self.train, synthetic))
        found = tabsyn_2024(*parts, holdout=self.code(self.test), target=self.position)
        return {
            "Shape error (%)": 100 * found.shape_error,
            "Trend error (%)": 100 * found.trend_error,
            "Trend error, shared edges (%)": 100 * found.trend_error_shared,
            "C2ST, logistic": found.c2st_logistic,
            "C2ST, boosting AUC": found.c2st_boosting_auc,
            "alpha-precision": found.alpha_precision,
            "beta-recall": found.beta_recall,
            "AUC lost against real (points)": 100 * (self.utility - found.utility),
            "Nearest record in train (%)": 100 * found.dcr_share,
        }

    def conditional(self, model: ck.TableModel, value: str) -> float:
        """Shape error of rows sampled with the target given, against the real rows that have it."""
        real_rows = self.train[self.train[self.target] == value]
        drawn = model.sample(len(real_rows), given={self.target: value}, seed=1)
        return 100 * float(shape_errors(self.code(real_rows), self.code(drawn)).mean())


def fitted(train: pd.DataFrame, target: str, minutes: str, seed: int) -> tuple[ck.TableModel, float]:
    budget = {} if minutes == "default" else {"max_minutes": float(minutes)}
    start = time.perf_counter()
    model = ck.TableModel(target=target, seed=seed, **budget).fit(train, progress=True)
    return model, time.perf_counter() - start


def machine() -> dict[str, str]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def markdown(columns: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(row for column in columns.values() for row in column))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row in names:
        cells = [f"{column[row]:.3f}" if row in column else "" for column in columns.values()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=PROTOCOL)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tables"))
    parser.add_argument("--minutes", action="append", help="budget of fitting, or 'default'; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-references", action="store_true", help="leave out the floor and the ceiling")
    arguments = parser.parse_args()

    train, test = read(arguments.dataset, arguments.data)
    judge = Judge(arguments.dataset, train, test)
    columns: dict[str, dict[str, float]] = {}
    for minutes in arguments.minutes or ["5", "default"]:
        model, seconds = fitted(train, judge.target, minutes, arguments.seed)
        start = time.perf_counter()
        synthetic = model.sample(len(train), seed=arguments.seed)
        sampling = time.perf_counter() - start
        scores = judge.scores(synthetic)
        if arguments.dataset == "adult":
            scores["Shape error given income >50K (%)"] = judge.conditional(model, ">50K")
        scores |= {"fitting (s)": seconds, "steps": model.training_run_.steps, "sampling (s)": sampling}
        name = "default fit" if minutes == "default" else f"{minutes} minutes"
        columns[name] = scores
        print(markdown({name: scores}), flush=True)
    if not arguments.no_references:
        columns["real test rows"] = judge.scores(test)
        del columns["real test rows"]["Nearest record in train (%)"]  # they are the holdout of that metric
        rng = np.random.default_rng(0)
        shuffled = train.apply(lambda column: column.to_numpy()[rng.permutation(len(train))])
        columns["independent columns"] = judge.scores(shuffled)
    record(arguments.dataset, columns, len(train))


def record(dataset: str, columns: dict[str, dict[str, float]], rows: int) -> None:
    """Add the columns of this run to the recorded ones, each with its command and machine, and print the table."""
    command = "python " + " ".join(sys.argv)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    path = RESULTS / f"tables-{dataset}.json"
    runs = json.loads(path.read_text()) if path.exists() else {}
    for name, scores in columns.items():
        runs[name] = {"command": command, "machine": machine(), "peak memory (GiB)": peak, "scores": scores}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(runs, indent=1) + "\n")
    table = markdown({name: run["scores"] for name, run in runs.items()})
    notes = "\n".join(f"- {name}: `{run['command']}` on {run['machine']}" for name, run in runs.items())
    path.with_suffix(".md").write_text(f"# {dataset}, {rows} training rows\n\n{table}\n\n{notes}\n")
    print(table)


if __name__ == "__main__":
    main()
