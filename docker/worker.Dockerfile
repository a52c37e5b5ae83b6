# A worker and its engine, with torch for CUDA. The base is plain: torch's wheels bring CUDA along.
FROM python:3.11-slim-bookworm AS build
WORKDIR /stillhouse
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY kdcore/__init__.py kdcore/__init__.py
COPY stillhouse/__init__.py stillhouse/__init__.py
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint requirements.lock ".[worker,engine]" \
 && /venv/bin/pip uninstall --yes stillhouse

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home /stillhouse stillhouse \
 && mkdir -p /var/lib/stillhouse/work && chown -R stillhouse /var/lib/stillhouse
WORKDIR /stillhouse
COPY --from=build /venv /venv
COPY docker/worker-entrypoint docker/worker-entrypoint
COPY kdcore kdcore
COPY store store
COPY worker worker
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/stillhouse
USER stillhouse
VOLUME /var/lib/stillhouse/work
ENTRYPOINT ["docker/worker-entrypoint"]
CMD ["train"]
