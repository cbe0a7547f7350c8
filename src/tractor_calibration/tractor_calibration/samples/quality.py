"""Is a surveyed folder of calibration samples worth quantising with, and what does it lack?"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tractor_core import diversity
from tractor_core.contract import Contract
from tractor_core.diversity import ENOUGH_IN_REGION
from tractor_core.samples import GOOD_SAMPLES, POOR_SAMPLES
from tractor_core.text import printable

from .survey import Survey, spread

GRADES = ("poor", "fair", "good")
# Frames nearer than this in the feature space are alike. In the simulator neighbours at 3 Hz
# are 0.25 apart at most while the rover stands, which is noise, and 0.3 (median) while it drives.
ALIKE = 0.25
# Of a feature's regions at least this share must hold ENOUGH_IN_REGION: no rover meets all of them.
LEAST_REGION_SHARE = 0.5
CONSTANT = 1e-6
MOST_OUTLIERS = 5
MOST_NAMED = 10
MOST_CONTRACTS = 3
DIGEST_SHOWN = 12
FOREIGN_ADVICE = "give the --params they were made with"

_FEATURE_ADVICE = {
    "lidar_min": "drive nearer to obstacles and farther from them",
    "prev_lin": "collect while the actor drives: this is its last action",
    "prev_ang": "collect while the actor drives: this is its last action",
    "cur_lin": "collect while it drives, and check that odom reports the speed",
    "cur_ang": "collect while it turns, and check that odom reports the turn rate",
    "gap_heading": "drive where the way is free in other directions than this",
}
_CHANNEL_ADVICE = {
    "lidar": "check scan and robot.lidar_pose",
    "depth": "check depth, camera_info and robot.camera_pose",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why a set is graded no better than `grade` ("good": only worth knowing), and what to do."""

    grade: str
    reason: str
    advice: str


def describe(found: Survey, others: Sequence[Contract] = ()) -> dict[str, Any]:
    """Return what was found, its grade, the reasons and the advice, as plain JSON types.

    `distinct` counts frames that differ from each other by more than ALIKE, up to GOOD_SAMPLES.

    Args:
        found: what is described.
        others: contracts that files may have been made for, to say in which fields they differ.
    """
    contract = found.contract
    usable = len(found.files)
    chosen, nearest = spread(found.points, GOOD_SAMPLES, ALIKE)
    farthest = np.argsort(-nearest, kind="stable")[: MOST_OUTLIERS if usable > 1 else 0]
    outliers = [i for i in farthest.tolist() if nearest[i] > ALIKE]
    counts = _region_counts(found)
    result: dict[str, Any] = {
        "folder": str(found.folder),
        "contract": contract.digest,
        "found": usable + len(found.unusable) + len(found.foreign),
        "usable": usable,
        "distinct": len(chosen),
        "duplicates": {file.name: of.name for file, of in found.duplicates.items()},
        "unusable": {file.name: reason for file, reason in found.unusable.items()},
        "foreign": {file.name: digest for file, digest in found.foreign.items()},
        "sessions": dict(sorted(Counter(found.sessions).items())),
        "without_stamp": sum(not stamp for stamp in found.stamps_ns),
        "features": _features(found) if usable else {},
        "channels": {
            name: {"mean_occupancy": float(mean.mean()), "empty_samples": int(empty)}
            for name, mean, empty in zip(contract.grid_channels, found.occupancy, found.empty)
        },
        "regions": counts,
        "few": few_regions(counts),
        "outliers": [
            {
                "file": found.files[chosen[i]].name,
                "distance": round(float(nearest[i]), 3),
                "regions": found.regions[chosen[i]],
            }
            for i in outliers
        ],
    }
    findings = _findings(result)
    if found.foreign:
        findings.append(_foreign(found, result["found"], others))
    findings.sort(key=lambda finding: GRADES.index(finding.grade))
    result["grade"] = min((finding.grade for finding in findings), key=GRADES.index, default="good")
    result["findings"] = [dataclasses.asdict(finding) for finding in findings]
    return result


def _features(found: Survey) -> dict[str, dict[str, Any]]:
    low, high = found.proprio.min(axis=0), found.proprio.max(axis=0)
    mean, std = found.proprio.mean(axis=0, dtype=float), found.proprio.std(axis=0, dtype=float)
    return {
        name: {
            "min": float(low[i]),
            "mean": float(mean[i]),
            "max": float(high[i]),
            "std": float(std[i]),
            "constant": bool(high[i] - low[i] < CONSTANT),
        }
        for i, name in enumerate(found.contract.proprio_names)
    }


def _region_counts(found: Survey) -> dict[str, dict[str, int]]:
    counts = {
        feature: dict.fromkeys(names, 0)
        for feature, names in diversity.all_regions(found.contract).items()
    }
    for place in found.regions:
        for feature, region in place.items():
            counts[feature][region] += 1
    return counts


def few_regions(counts: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Return the regions with fewer than ENOUGH_IN_REGION samples, the emptiest first."""
    return sorted(
        (
            {"feature": feature, "region": region, "samples": count}
            for feature, regions in counts.items()
            for region, count in regions.items()
            if count < ENOUGH_IN_REGION
        ),
        key=lambda gap: gap["samples"],
    )


def listed(names: Sequence[str]) -> str:
    """Return file names for a sentence, ten at most."""
    hidden = len(names) - MOST_NAMED
    shown = ", ".join(map(printable, names[:MOST_NAMED]))
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _foreign(found: Survey, total: int, others: Sequence[Contract]) -> Finding:
    """Say once which files were made with another parameter file, and where it differs."""
    known = {other.digest: other for other in others}
    details = []
    for digest, _ in Counter(found.foreign.values()).most_common(MOST_CONTRACTS):
        if digest in known:
            details += found.contract.differences(known[digest].canonical())
        else:
            ours = found.contract.digest[:DIGEST_SHOWN]
            details.append(f"contract: here {ours}, there {digest[:DIGEST_SHOWN]}")
    count = len(found.foreign)
    who = f"all {count}" if count == total else f"{count} of {total}"
    reason = f"{who} samples were made with another parameter file: {'; '.join(details)}"
    if count < total:
        reason += f"; they are {listed([file.name for file in found.foreign])}"
    return Finding("good" if found.files else "poor", reason, FOREIGN_ADVICE)


def _findings(result: dict[str, Any]) -> list[Finding]:
    """Return the reasons of the grade."""
    usable, distinct = result["usable"], result["distinct"]
    found = []
    if distinct < GOOD_SAMPLES and (usable or not result["foreign"]):
        poor = distinct < POOR_SAMPLES
        detail = f"{usable} usable samples"
        if distinct < usable:
            detail += f", {distinct} of them distinct (the others are much like these)"
        wanted = f"fewer than {POOR_SAMPLES} are poor" if poor else f"{GOOD_SAMPLES} are wanted"
        advice = "drive on while it samples"
        if result["foreign"]:
            advice = f"others are of another contract: {FOREIGN_ADVICE}"
        elif usable >= GOOD_SAMPLES:
            advice += ", in other places, at other speeds and turns; more of the same does not help"
        found.append(Finding("poor" if poor else "fair", f"{detail}; {wanted}", advice))
    if usable:
        found += _narrow(result)
    if result["unusable"]:
        found.append(Finding(
            "good", f"files that cannot be used, and are left out: {len(result['unusable'])}",
            "their reasons are listed; --quarantine moves such files to a folder of their own",
        ))  # fmt: skip
    if result["duplicates"]:
        found.append(Finding(
            "good", f"samples that repeat the content of another: {len(result['duplicates'])}",
            "they do no harm and add nothing",
        ))  # fmt: skip
    if len(result["sessions"]) == 1 and "" not in result["sessions"]:
        found.append(Finding(
            "good", "all samples come from one session",
            "collect in several places and lights: samples of all sessions may share a folder",
        ))  # fmt: skip
    return found


def _narrow(result: dict[str, Any]) -> list[Finding]:
    """Return what the set does not reach although it should."""
    found = []
    for name, channel in result["channels"].items():
        if channel["empty_samples"] == result["usable"]:
            found.append(Finding(
                "poor", f"the {name} channel is empty in every sample: INT8 would be useless",
                f"{_CHANNEL_ADVICE[name]}, then collect anew",
            ))  # fmt: skip
    for name, feature in result["features"].items():
        if feature["constant"]:
            reason = f"{name} is {feature['mean']:.3g} in every sample"
            found.append(Finding("fair", reason, _FEATURE_ADVICE[name]))
    for feature, counts in result["regions"].items():
        well = sum(count >= ENOUGH_IN_REGION for count in counts.values())
        if well < LEAST_REGION_SHARE * len(counts):
            missing = [f"{r} ({n})" for r, n in counts.items() if n < ENOUGH_IN_REGION]
            found.append(Finding(
                "fair",
                f"{feature}: {well} of {len(counts)} regions hold {ENOUGH_IN_REGION} samples or "
                "more, half of them should",
                f"collect more of: {'; '.join(missing)}",
            ))  # fmt: skip
    return found
