"""``run``: verify the teachers, train every phase of the scheme, evaluate, export."""

from pathlib import Path
from typing import Any

from kdcore.data import dataset
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.job import network_channels
from kdcore.schemes import planner
from kdcore.schemes.base import StudentResult
from kdcore.training.checkpoint import Checkpoints, StateDict
from kdcore.training.compute import device
from kdcore.training.compute.autocast_policy import NetworkSpec, Precision
from kdcore.training.context import JobContext
from kdcore.training.dry_run import dry_run
from kdcore.training.finish import evaluate_and_export
from kdcore.training.inputs import load_inputs
from kdcore.training.job_digest import compute_job_digest
from kdcore.training.loop.trainer import Trainer
from kdcore.training.phase_teachers import teachers_for_phase
from kdcore.training.run_state import PhasePosition, RunState, TimeBudget
from kdcore.training.teacher_cache.policy import fill_teacher_cache


def run_job(
    request: RunRequest, workdir: Path, events: EventWriter, stop: CancellationToken
) -> None:
    """Train, evaluate and export what ``request`` asks, going on from the workdir's checkpoint.

    Everything is told through ``events``. Raises ``Stopped``, ``NonFinite``, ``OutOfDeviceMemory``
    and ``UserFault`` as their docstrings say; a later call with the same workdir goes on.
    """
    job = request.job
    checkpoints = Checkpoints(workdir / "checkpoints", events)
    job_digest = compute_job_digest(request)
    resumed_state = checkpoints.load_newest(job_digest)
    compute_env = _prepare_compute_env(request, resumed_state)
    run_state = RunState(
        compute_env=compute_env,
        events=events,
        cancellation=stop,
        time_budget=TimeBudget(job.limits, request.elapsed_s),
        checkpoints=checkpoints,
        job_digest=job_digest,
        max_phases=planner.max_phases(job),
    )
    environment = _run_environment(run_state, resumed_state)
    events.phase("verifying_teacher" if request.teachers else "training", environment)
    if environment.get("non_exact"):
        events.log("warning", _describe_difference(run_state, resumed_state or {}))
    context = load_inputs(request, run_state, workdir, log_top1=resumed_state is None)
    run_state.normalization = context.normalization
    if request.fill_cache_only:
        _fill_teacher_cache(run_state, context)
        return
    teacher_digest = context.teachers.digest()
    if request.teachers:
        events.phase("training")
    if job.kind == "evaluate":
        run_state.results = [_untrained_result(context)]
    else:
        _train(run_state, context, resumed_state)
    if context.teachers.digest() != teacher_digest:
        raise RuntimeError("training changed the teacher: its parameters or buffers differ")
    evaluate_and_export(request, run_state, context, workdir / "artifacts")


def _prepare_compute_env(request: RunRequest, resumed_state: StateDict | None) -> device.ComputeEnv:
    job = request.job
    # What trains nothing computes as ever, and is not timed.
    learns = job.kind == "distill" and not request.fill_cache_only
    previous_precision: Precision | None = None if learns else "float32"
    if resumed_state is not None:
        previous_precision = resumed_state["machine"]["precision"]
    threads, network_spec = request.threads, _network_spec(request)
    return device.prepare_compute_env(
        request.device, threads, job.training, network_spec, previous_precision
    )


def _network_spec(request: RunRequest) -> NetworkSpec:
    student = request.job.student
    info = dataset.load_dataset(Path(request.dataset.path)).info
    channels = network_channels(student.channels, info.in_channels)
    return NetworkSpec(student.network, len(info.classes), channels, info.image_size)


def _run_environment(run_state: RunState, resumed_state: StateDict | None) -> dict[str, Any]:
    environment = run_state.compute_env.as_dict()
    if resumed_state is not None:
        environment["resumed_from_step"] = resumed_state["step"]
        environment["non_exact"] = resumed_state["machine"] != run_state.compute_env.as_dict()
    return environment


def _describe_difference(run_state: RunState, resumed_state: StateDict) -> str:
    then, now = resumed_state["machine"], run_state.compute_env.as_dict()
    parts = [
        f"{name} was {then.get(name)}, is {value}"
        for name, value in now.items()
        if then.get(name) != value
    ]
    return (
        "this run goes on from a checkpoint of another machine, so its numbers may differ in the "
        f"last digits: {'; '.join(parts)}"
    )


def _train(run_state: RunState, context: JobContext, resumed_state: StateDict | None) -> None:
    """Every phase that the checkpoint does not hold as finished; a checkpoint after each."""
    current = None
    if resumed_state is not None:
        run_state.load_state_dict(resumed_state)
        current = resumed_state["current"]
    else:
        dry_run(context, run_state.compute_env)
    run_state.start_timer()
    while (phase := planner.next_phase(context.job, run_state.results)) is not None:
        trainer = Trainer(run_state, context, phase, teachers_for_phase(run_state, context, phase))
        if current is not None:
            trainer.load_state_dict(current)
            current = None
        results, metrics = trainer.run()
        position = trainer.position
        run_state.finish_phase(results, position.step, position.epoch)
        run_state.save_checkpoint(None, PhasePosition(0, position.steps, position.epochs), metrics)


def _fill_teacher_cache(run_state: RunState, context: JobContext) -> None:
    """Have what each seed of the job first asks its teachers kept: later runs find it."""
    run_state.events.phase("caching_teacher")
    phases = planner.first_phases(context.job)
    if not phases:
        raise ValueError("a job without a phase asks nothing")
    for phase in phases:
        trainer = Trainer(run_state, context, phase, teachers_for_phase(run_state, context, phase))
        epochs = range(1, context.job.training.epochs + 1)
        fill_teacher_cache(
            trainer.teacher_cache, map(trainer.loader.view_of_epoch, epochs), run_state
        )
    run_state.events.report(run_state.teacher_cache_stats.report_details())


def _untrained_result(context: JobContext) -> StudentResult:
    """The model that is evaluated, in the place of a student that was trained."""
    if context.init_weights is None:
        raise ValueError("an evaluation needs the model's weights")
    return StudentResult(
        phase_index=0,
        seed_index=0,
        role="student",
        name="student",
        student=context.job.student,
        best_epoch=0,
        best_val_top1=0.0,
        last_val_top1=0.0,
        weights=context.init_weights,
    )
