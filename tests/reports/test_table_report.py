import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from report_tables import ROWS, draw, permuted
from scipy import stats

from clarkia.errors import DataError
from clarkia.measures import MixedRows, Target, mean_pair, pair_errors, tabsyn_2024
from clarkia.reports import table_report
from clarkia.reports.columns import code_tables, type_columns
from clarkia.reports.groups.validity import validity_metrics
from clarkia.reports.material import gather
from clarkia.reports.metric import GROUPS


def test_every_metric_has_a_value_with_what_it_takes_to_read_it(fresh):
    assert [group for group in GROUPS if any(m.group == group for m in fresh.metrics)] == list(GROUPS)
    for metric in fresh.metrics:
        assert metric.value is not None, metric.name
        assert metric.floor is not None, metric.name
        assert metric.better in ("lower", "higher")
        assert metric.note.endswith("."), metric.name
        if metric.name not in ("Importance agreement", "Columns of the right type"):
            assert metric.interval is not None, metric.name
            assert metric.interval[0] - 1e-9 <= metric.value <= metric.interval[1] + 1e-9, metric.name
            assert metric.rows is not None, metric.name
        if metric.group != "validity":
            assert metric.ceiling is not None, metric.name
        if metric.skill is not None:
            assert metric.skill == pytest.approx(1 - (metric.value - metric.floor) / (metric.ceiling - metric.floor))
    assert sum(metric.skill is None for metric in fresh.metrics if metric.group != "validity") <= 3


def test_fresh_rows_have_skill_one(fresh):
    for name in (
        "Kolmogorov-Smirnov distance",
        "Total variation",
        "Joint total variation",
        "Beta-recall",
        "AUC, boosting",
    ):
        assert fresh[name].skill > 0.7, name
    assert fresh["Two-sample AUC, boosting"].value == pytest.approx(0.5, abs=0.08)
    assert fresh["Nearer to training than to holdout"].value == pytest.approx(0.5, abs=0.08)
    assert fresh["Exact copies"].value == 0


def test_unrelated_columns_have_no_skill_beyond_single_columns(unrelated):
    for name in ("Joint total variation", "Two-sample AUC, boosting", "Log loss, boosting", "Beta-recall"):
        assert unrelated[name].skill < 0.3, name
    assert unrelated["Kolmogorov-Smirnov distance"].skill > 0.85
    assert unrelated["AUC lost, boosting"].interval[0] > 0


def test_keys_are_no_column_to_compare(fresh):
    assert fresh.left_out == {"id": "key"}
    assert [column.name for column in fresh.columns] == ["age", "income", "start", "end", "region", "buyer"]
    assert fresh.pairs.names == ("age", "income", "start", "end", "region", "buyer")
    assert fresh["Repeated keys, id"].value == fresh["Real keys, id"].value == 0


def test_the_pairs_are_those_of_the_measure(fresh):
    coded = code_tables(type_columns(draw(ROWS, 1)), {"real": draw(ROWS, 1), "synthetic": draw(ROWS, 2)})
    expected = mean_pair(pair_errors(coded.rows["real"], coded.rows["synthetic"]))
    assert fresh["Joint total variation"].value == expected == fresh.to_dict()["pairs"]["mean"]
    worst = fresh.pairs.worst(3)
    excess = [distance - floor for *_, distance, floor in worst]
    assert excess == sorted(excess, reverse=True)


def test_the_report_is_strict_json_and_says_how_many_rows(fresh):
    found = json.loads(fresh.to_json(), parse_constant=lambda word: pytest.fail(word))
    assert found == json.loads(json.dumps(fresh.to_dict()))
    assert found["rows"] == {"real": ROWS, "synthetic": ROWS, "holdout": ROWS}
    assert {metric["name"] for metric in found["metrics"]} >= {"Two-sample AUC, boosting", "Membership attack AUC"}
    assert [column["name"] for column in found["columns"]] == [column.name for column in fresh.columns]


def test_the_text_has_every_metric_and_stays_in_its_width(fresh):
    text = fresh.to_text(120)
    for metric in fresh.metrics:
        assert metric.name in text
    assert "400 real, 400 synthetic, 400 holdout rows, seed 0" in text
    assert max(map(len, text.splitlines())) <= 120
    assert all(fresh.to_text(width) for width in (40, 200))


def test_copies_of_a_tenth_are_reported():
    rng = np.random.default_rng(4)
    real = draw(ROWS, 1)
    copies = real.take(rng.choice(ROWS, ROWS // 10, replace=False))
    made = pa.concat_tables([copies, draw(ROWS - ROWS // 10, 5)])
    report = table_report(real, made, holdout=draw(ROWS, 3))
    assert report["Exact copies"].value == pytest.approx(0.1)
    assert report["Real keys, id"].value == pytest.approx(0.1)
    assert report["Members found at 1% false alarms"].value > 0.05
    privacy = next(finding for finding in report.findings if finding.group == "privacy")
    assert privacy.tone == "bad"
    assert "exact copies 0.100" in privacy.text
    assert report.findings[0].title.endswith("training rows leave a trace")


def test_a_table_that_repeats_the_real_one_is_not_praised():
    report = table_report(draw(ROWS, 1), draw(ROWS, 1), holdout=draw(ROWS, 3))
    assert report.findings[0].title == "Synthetic rows repeat real ones"
    assert report.findings[0].tone == "bad"
    assert report["Exact copies"].skill == report["Members found at 1% false alarms"].skill == 0


def test_without_a_holdout_and_a_target_the_report_says_what_is_missing():
    report = table_report(draw(200, 1), draw(150, 2))
    texts = {finding.group: finding.text for finding in report.findings}
    assert "No target was given" in texts["utility"]
    assert "give a holdout" in texts["privacy"]
    assert {m.name for m in report.metrics if m.group == "privacy"} == {"Exact copies", "Copies of unique rows"}
    assert not any(m.group == "utility" for m in report.metrics)


def test_the_same_seed_gives_the_same_report():
    first, second, other = (
        table_report(draw(60, 1), draw(60, 2), holdout=draw(60, 3), seed=s).to_json() for s in (5, 5, 6)
    )
    assert first == second != other


def test_a_numeric_target_is_regressed_in_its_units():
    report = table_report(draw(160, 1), draw(160, 2), holdout=draw(160, 3), target="age", sensitive=["region"])
    assert 2 < report["RMSE, boosting"].value < 12
    assert report["R2, linear"].value > 0.5
    assert "Attribute inference gain, region" in {m.name for m in report.metrics}


def test_large_tables_are_cut_and_it_is_said():
    report = table_report(draw(400, 1), draw(300, 2), max_rows=200)
    assert report.rows_used == {"real": 200, "synthetic": 200}
    assert report["Joint total variation"].rows == (200, 200)
    assert report["Exact copies"].rows == (400, 300)  # all rows
    assert "200 of the real rows were used" in report.to_text()


def test_frames_and_roles_are_taken():
    frames = [draw(120, seed).to_pandas() for seed in (1, 2)]
    report = table_report(*frames, roles={"age": "categorical", "end": "drop"})
    assert next(c for c in report.columns if c.name == "age").kind == "categorical"
    assert report.left_out == {"id": "key", "end": "drop"}


def rules(made, **constraints):
    real = draw(300, 1)
    tables = {"real": real, "synthetic": made}
    coded = code_tables(type_columns(real), tables)
    material = gather(tables, coded, target=None, sensitive=(), max_rows=1000, seed=0)
    return {m.name: m for m in validity_metrics(material, constraints)}


def test_validity_counts_every_kind_of_breach():
    made = draw(300, 2).to_pandas()
    made["age"] = made["age"].astype(float)
    made.loc[:29, "age"] = 200
    made.loc[:59, "region"] = "moon"
    made["buyer"] = made["buyer"].mask(np.arange(300) < 15)
    made.loc[:1, "id"] = 7
    made["extra"] = 1
    found = rules(pa.Table.from_pandas(made, preserve_index=False))
    assert found["Columns of the right type"].value == pytest.approx(6 / 7)  # age is no longer an integer
    assert "Not so: age. Added: extra." in found["Columns of the right type"].note
    assert found["Rows out of range"].value >= 0.1
    assert found["Rows with an unseen category"].value == pytest.approx(0.2)
    assert found["Rows with an unexpected gap"].value == pytest.approx(0.05)
    assert found["Repeated keys, id"].value == pytest.approx(2 / 300)
    low, high = found["Repeated keys, id"].interval
    assert stats.binom.sf(1, 300, low) == pytest.approx(0.025)
    assert stats.binom.cdf(2, 300, high) == pytest.approx(0.025)


def test_constraints_are_checked_against_unrelated_columns():
    ordered = {"ends after it starts": lambda table: pc.less(table["start"], table["end"])}
    assert rules(draw(300, 2), **ordered)["Violations, ends after it starts"].value == 0
    broken = rules(permuted(draw(300, 2)), **ordered)["Violations, ends after it starts"]
    assert broken.value == pytest.approx(broken.ceiling, abs=0.1)
    assert broken.floor == 0
    assert broken.skill < 0.4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"target": "buyers"}, "Column 'buyers' given in target or sensitive does not exist; nearest are 'buyer'"),
        ({"target": "id"}, "Column 'id' is left out of the report"),
        ({"protocol": "best-2030"}, "Protocol 'best-2030' is unknown; the protocols are clarkia-1 and tabsyn-2024"),
        ({"max_rows": 3}, "max_rows must be at least 30, not 3"),
        ({"holdout": draw(9, 3)}, "The holdout table needs at least 30 rows for a report, not 9"),
        ({"imputed": [draw(50, 3)]}, "Imputed tables need a holdout and a target"),
        (
            {"imputed": [draw(50, 3)], "holdout": draw(60, 3), "target": "buyer"},
            "'imputed 0' has 50 rows but the holdout",
        ),
        ({"constraints": {"c": lambda table: [1]}}, "Constraint 'c' must return one boolean a row"),
        ({"roles": {"age": "categorical"}, "target": "age"}, "categories; a report predicts at most 30"),
        (
            {"roles": dict.fromkeys(("age", "income", "start", "end", "region"), "drop"), "target": "buyer"},
            "the only one",
        ),
    ],
)
def test_bad_arguments_are_refused_with_one_sentence(arguments, sentence):
    with pytest.raises(DataError, match=r"^[^\n]+$") as caught:
        table_report(draw(300, 1), draw(50, 2), **arguments)
    assert sentence in str(caught.value)


def test_a_missing_metric_is_named(fresh):
    with pytest.raises(KeyError, match="No metric 'FID'; there are 'Kolmogorov-Smirnov distance'"):
        fresh["FID"]


def test_the_parity_protocol_is_the_measure():
    real, made, holdout = draw(200, 1), draw(150, 2), draw(120, 3)
    report = table_report(
        real, made, holdout=holdout, target="buyer", protocol="tabsyn-2024", imputed=[holdout, holdout]
    )
    coded = code_tables(type_columns(real), {"real": real, "synthetic": made, "holdout": holdout})
    rows: list[MixedRows] = list(coded.rows.values())
    expected = tabsyn_2024(rows[0], rows[1], holdout=rows[2], target=Target(1))
    assert report["Shape error"].value == expected.shape_error
    assert report["Trend error"].value == expected.trend_error
    assert report["Trend error, shared edges"].value == expected.trend_error_shared
    assert report["Alpha-precision"].value == expected.alpha_precision
    assert report["Beta-recall"].value == expected.beta_recall
    assert report["C2ST score, logistic"].value == expected.c2st_logistic
    assert report["Two-sample AUC, boosting"].value == expected.c2st_boosting_auc
    assert report["Utility AUC"].value == expected.utility
    assert report["Closest-record share"].value == expected.dcr_share
    assert report["Imputation AUC, micro average"].value == 1.0
    assert all(m.interval is not None for m in report.metrics if not m.name.startswith("Imputation"))
    assert len(report.metrics) == 10
    assert "That alone proves little" in report.findings[-1].text
