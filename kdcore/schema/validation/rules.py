"""Validate a job: its fields with each other, and the job with its data set and models."""

from kdcore.schema.job import JobSpec
from kdcore.schema.validation.compatibility import COMPATIBILITY_RULES, JobAssets
from kdcore.schema.validation.cross_field import CROSS_FIELD_RULES
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.partial_spec import PartialSpec


def validate(job: PartialSpec[JobSpec], assets: JobAssets | None = None) -> list[ValidationIssue]:
    """The issues of all rules whose fields are intact, in the order of the rules.

    Without ``assets``, which need a data set, only the rules between fields apply.
    """
    issues = [
        issue
        for rule in CROSS_FIELD_RULES
        if rule.needs in (None, job.spec.needs) and job.is_intact(*rule.reads)
        for issue in rule.issues(job)
    ]
    if assets is not None:
        issues += [
            issue
            for compatibility_rule in COMPATIBILITY_RULES
            if job.is_intact(*compatibility_rule.reads)
            for issue in compatibility_rule.issues(job, assets)
        ]
    return issues
