"""run_job: check the teachers, train every phase of the scheme, evaluate, export."""

from pathlib import Path
from typing import Any

from kdcore.data import dataset
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.catalog import PROGRAM_FORMATS
from kdcore.schema.job import network_channels
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.checkpoint import Checkpoints, CheckpointSchedule, StateDict
from kdcore.training.compute.autocast_policy import NetworkSpec, Precision
from kdcore.training.compute.device import ComputeEnv, prepare_compute_env
from kdcore.training.context import JobContext
from kdcore.training.finish import evaluate_and_export
from kdcore.training.inputs import load_inputs
from kdcore.training.job_digest import compute_job_digest
from kdcore.training.loop.builder import TrainingExtent, build_student_group
from kdcore.training.loop.trainer import Trainer
from kdcore.training.phase_teachers import select_teachers, teachers_for_phase
from kdcore.training.run_state import PhasePosition, RunState, TimeBudget
from kdcore.training.teacher_cache.policy import fill_teacher_cache, why_not


def run_job(
    request: RunRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Train, evaluate and export as ``request`` says, resuming the workdir's checkpoint if any.

    Everything is reported through ``events``. Raises ``RunCancelledError``, ``NonFiniteError``,
    ``OutOfDeviceMemoryError`` and ``UserError``; a later call with the same workdir resumes.
    """
    checkpoints = Checkpoints(workdir / "checkpoints", events)
    job_digest = compute_job_digest(request)
    resumed_state = checkpoints.load_newest(job_digest)
    run_state = RunState(
        compute_env=_prepare_compute_env(request, resumed_state),
        events=events,
        cancellation=cancellation,
        time_budget=TimeBudget(request.job.limits, request.elapsed_s),
        checkpoints=checkpoints,
        job_digest=job_digest,
        max_phases=planner.max_phases(request.job),
        checkpoint_schedule=CheckpointSchedule.from_interval(request.checkpoint_interval_s),
    )
    _report_environment(request, run_state, resumed_state)
    context = load_inputs(request, run_state, workdir, log_top1=resumed_state is None)
    run_state.normalization = context.normalization
    if request.fill_cache_only:
        _fill_teacher_cache(run_state, context)
        return
    teacher_digest = context.teachers.digest()
    if request.teachers:
        events.phase("training")
    if request.job.trains:
        _train(run_state, context, resumed_state)
    else:
        run_state.results = [_untrained_result(context)]
    if context.teachers.digest() != teacher_digest:
        raise RuntimeError("training changed the teacher: its parameters or buffers differ")
    evaluate_and_export(request, run_state, context, workdir / "artifacts")


def _prepare_compute_env(request: RunRequest, resumed_state: StateDict | None) -> ComputeEnv:
    job = request.job
    # A run that trains nothing computes in float32 and needs no timing.
    trains = job.trains and not request.fill_cache_only
    previous_precision: Precision | None = None if trains else "float32"
    if resumed_state is not None:
        previous_precision = resumed_state["compute_env"]["precision"]
    return prepare_compute_env(
        request.device, request.threads, job.training, _network_spec(request), previous_precision
    )


def _network_spec(request: RunRequest) -> NetworkSpec | None:
    """The network to train; None for one from a file, which is only evaluated."""
    student = request.job.student
    if student.architecture in PROGRAM_FORMATS:
        return None
    info = dataset.load_dataset(Path(request.dataset.path)).info
    channels = network_channels(student.channels, info.in_channels)
    return NetworkSpec(student.network, len(info.classes), channels, info.image_size)


def _report_environment(
    request: RunRequest, run_state: RunState, resumed_state: StateDict | None
) -> None:
    """Emit the first phase, with the environment and where the run resumes."""
    environment = run_state.compute_env.as_dict()
    runtime: dict[str, Any] = dict(environment)
    if resumed_state is not None:
        runtime["resumed_from_step"] = resumed_state["step"]
        runtime["non_exact"] = resumed_state["compute_env"] != environment
    run_state.events.phase("verifying_teacher" if request.teachers else "training", runtime)
    if resumed_state is not None and runtime["non_exact"]:
        difference = _describe_difference(resumed_state["compute_env"], environment)
        run_state.events.log(
            "warning",
            "the checkpoint was written in another environment, so numbers may differ in the last "
            f"digits: {difference}",
        )


def _describe_difference(previous: dict[str, Any], present: dict[str, Any]) -> str:
    return "; ".join(
        f"{name} was {previous.get(name)}, is {value}"
        for name, value in present.items()
        if previous.get(name) != value
    )


def _train(run_state: RunState, context: JobContext, resumed_state: StateDict | None) -> None:
    """Train every phase that is not complete in the checkpoint; write a checkpoint after each."""
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
    """Compute and store the teacher outputs of each seed's first phase, for later runs."""
    run_state.events.phase("caching_teacher")
    phases = planner.first_phases(context.job)
    if not phases:
        raise ValueError("the job has no phase, so no teacher outputs to cache")
    for phase in phases:
        phase_teachers = teachers_for_phase(run_state, context, phase)
        trainer = Trainer(run_state, context, phase, phase_teachers)
        views = map(trainer.loader.view_of_epoch, range(1, context.job.training.epochs + 1))
        reason = why_not(context, phase, phase_teachers.teachers)
        fill_teacher_cache(trainer.teacher_cache, reason, views, run_state)
    run_state.events.report(run_state.teacher_details())


def _untrained_result(context: JobContext) -> StudentResult:
    """The model to evaluate, as the result of a phase."""
    weights = {} if context.evaluated_program else context.init_weights
    if weights is None:
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
        weights=weights,
    )


def dry_run(context: JobContext, compute_env: ComputeEnv) -> None:
    """Build the phases of the first seed with untrained networks; train none.

    A student that cannot be derived, initialized or hooked fails here, before its assistants are
    trained. Raises the ``UserError`` that its phase would raise. Every phase seeds its random
    numbers, so the dry run does not change any result.
    """
    job = context.job
    if job.scheme.max_phases(has_teacher=bool(job.teachers)) == 1:
        return
    results: list[StudentResult] = []
    phases_done = 0
    while (phase := planner.next_phase(job, results)) is not None and not _repeats(phase):
        # The first phase is built right after the dry run anyway.
        if phases_done:
            teachers = select_teachers(context, phase, results, compute_env.device)
            build_student_group(
                context,
                phase,
                teachers if phase.uses_teacher else TeacherEnsemble(()),
                compute_env,
                TrainingExtent(context.dataset.targets("train"), 1),
            ).close()
        results += _untrained_results(context, phase, phases_done)
        phases_done += 1


def _repeats(phase: Phase) -> bool:
    """Whether the phase can fail only if an earlier one does: of another seed, or a baseline."""
    return phase.seed_index > 0 or phase.students[0].role == "baseline"


def _untrained_results(context: JobContext, phase: Phase, phases_done: int) -> list[StudentResult]:
    return [
        StudentResult(
            phase_index=phases_done,
            seed_index=phase.seed_index,
            role=student_spec.role,
            name=student_spec.name,
            student=student_spec.student,
            best_epoch=0,
            best_val_top1=0.0,
            last_val_top1=0.0,
            weights=context.build_student(student_spec, phase.seed, index).network.state_dict(),
        )
        for index, student_spec in enumerate(phase.students)
    ]
