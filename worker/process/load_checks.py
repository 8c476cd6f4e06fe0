"""Load checks find out without loading that a pipeline can't be loaded here, so that another stays on the device."""

from models.errors import BatchmillError, LoadFailed, MissingModel
from models.pipelines import folder_hash
from models.pipelines.options.quantization import device_problem
from models.pipelines.pipeline import Pipeline
from worker.process_device import ProcessDevice

KINDS = ("cpu", "cuda", "mps")


def find_problem(pipeline: Pipeline, process_device: ProcessDevice) -> BatchmillError | None:
    """Return the error that loading the pipeline would raise; None if that is not known yet.

    process_device: the device of this process, which a pipeline may name otherwise.
    """
    try:
        placed_on = process_device.torch_name_for(pipeline.device)
        for key, folder in (
            ("model", pipeline.folder),
            ("tokenizer", pipeline.tokenizer_folder),
            ("adapter", pipeline.adapter_folder),
        ):
            if folder is not None:
                folder_hash.check_folder(folder, key)
    except (LoadFailed, MissingModel) as error:
        return error
    kind = (process_device.torch_name if placed_on == "auto" else placed_on).partition(":")[0]
    problem = device_problem(pipeline.quantization, kind) if kind in KINDS else None
    return LoadFailed(problem) if problem else None
