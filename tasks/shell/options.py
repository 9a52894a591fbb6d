"""Hydra for the commands: configs composed from one folder, options checked before anything runs, errors in one line."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from infoatlas_rl.files import full_disk
from infoatlas_rl.keystates.settings import METHODS, KeyStateConfig
from infoatlas_rl.processes import end_with_process
from infoatlas_rl.records import TYPED

STARTED_BY = "INFOATLAS_STARTED_BY"
"""Environment variable: the process that started this one as a part of its own work, and that it ends with."""
MOST_THREADS = 8
"""Threads for a core."""
USUAL_STEPS = 4000
"""Training steps of a policy where the file of a task says none."""
OWN_ENVS: dict[str, str] = {}
"""Tasks that files given as ``env=FILE.yaml`` describe, and these files."""
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def defaults(group: str, schema: Any, name: str = "default") -> None:
    """Make the fields of a dataclass, with their defaults or as an instance has them, the options ``group.*`` of configs that
    list ``group: name``."""
    node = OmegaConf.structured(schema)
    # The options of a frozen dataclass are still to be set; it is frozen once it has been built from them.
    for part in [node, *(node._get_node(field) for field in node)]:
        if isinstance(part, DictConfig):
            OmegaConf.set_readonly(part, False)
    ConfigStore.instance().store(group=group, name=name, node=node)


def defaults_of_discovery() -> None:
    """The options ``discovery.*``, of each of its methods."""
    for method in METHODS:
        defaults("discovery", KeyStateConfig(method=method), method)


def chosen(option: str, given: str | Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """What an option names: one of the known names, a list of them, or, with null, all.

    Raises:
        ValueError: a name that is not known.
    """
    known = list(known)
    names = known if given is None else [given] if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not names:
        raise ValueError(f"{option} has to be a name, a list, or null for all, not {given!r}; choose of {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{option}: there is no {unknown[0]!r}; choose of {', '.join(known)}")
    return list(dict.fromkeys(names))


def hydra_main(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """``hydra.main`` for the configs of this project, with errors for people: one line, and what is accepted."""

    def decorate(run: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(run)
        def entry() -> None:
            if STARTED_BY in os.environ:
                end_with_process(int(os.environ[STARTED_BY]))
            TYPED[:], TYPED_IN[:] = sys.argv, [os.getpid()]
            sys.argv[1:] = [_quoted(_own_env(argument)) for argument in sys.argv[1:]]
            _check_overrides(config_name, sys.argv[1:])
            FAILED.clear()
            hydra.main(version_base=None, config_path=str(CONFIGS), config_name=config_name)(_for_people(run))()
            if FAILED:
                sys.exit(f"error: of the jobs these failed, see above: {', '.join(FAILED)}")

        return entry

    return decorate


USUAL = ("trajectory", "low_dim", "image", "data", "demo", "dataset")
"""Names that files have whatever is in them."""


def name_of_file(path: Any) -> str:
    """What runs on a file are called: its name without the ending, after those of its folders where many files have that name."""
    if path is None:
        return "any"
    path = Path(str(path))
    parts = [*path.absolute().parts[-3:-1], path.stem] if path.stem.startswith(USUAL) else [path.stem]
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))


OmegaConf.register_new_resolver("name_of_file", name_of_file, replace=True)
OmegaConf.register_new_resolver("if", lambda condition, text: text if condition else "", replace=True)


def _own_env(argument: str) -> str:
    """``env=mine/Task.yaml``, a file in the format of ``configs/env``, as a further choice of ``env``."""
    path = Path(argument.removeprefix("env="))
    if not argument.startswith("env=") or path.suffix not in (".yaml", ".yml"):
        return argument
    if not path.is_file():
        sys.exit(f"error: {path}: no such file; it has to describe a task as configs/env/PlugCharger.yaml does")
    try:
        described = OmegaConf.load(path)
        if not isinstance(described, DictConfig) or not {"name", "task", "concepts"} <= set(described):
            raise ValueError("it lacks one of name, concepts, task")
        if not re.fullmatch(r"[A-Za-z][\w-]*", str(described.name)):
            raise ValueError(f"name: {described.name!r} is none; give it letters, digits, - and _, the first one a letter")
        for key, least in (("concepts", 1), ("training_steps", 1)):
            value = described.get(key)
            if value is not None and (type(value) is not int or value < least):
                raise ValueError(f"{key}: {value!r} is no whole number of at least {least}")
        if (CONFIGS / "env" / f"{described.name}.yaml").is_file():
            raise ValueError(f"name: {described.name} is that of a task that is there already; give it another one")
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        sys.exit(f"error: {path} describes no task as configs/env/PlugCharger.yaml does: {' '.join(str(error).split())}")
    described.setdefault("training_steps", USUAL_STEPS)
    ConfigStore.instance().store(group="env", name=described.name, node=described)
    OWN_ENVS[described.name] = str(path)
    return f"env={described.name}"


def typed_env(name: str) -> str:
    """What to type after ``env=`` for a task."""
    return OWN_ENVS.get(name, name)


def _quoted(argument: str) -> str:
    """An override whose value Hydra's grammar does not know, a path with é or a bracket, say, in quotes."""
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return f"{key}='{value.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"
    return argument


def _for_people(run: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Expected errors end the program with their message, Ctrl-C with a word on how to go on."""

    @functools.wraps(run)
    def wrapped(cfg: DictConfig) -> None:
        try:
            _note_command()
            _set_threads(cfg)
            run(cfg)
        except (ValueError, RuntimeError, OSError, HydraException, OmegaConfBaseException) as error:
            if os.environ.get("HYDRA_FULL_ERROR"):
                raise
            # Of what was instantiated, Hydra and OmegaConf pass an error on as the cause of theirs.
            cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
            if isinstance(cause, OSError) and (full := full_disk(cause, _results(cfg))) is not None:
                sys.exit(f"error: {full}")
            said = f"error: {' '.join(str(cause).split())}" if cause is not error else f"error: {error}"
            if not _one_of_several():
                sys.exit(said)
            FAILED.append(str(HydraConfig.get().job.num))
            print(said, file=sys.stderr)
        except KeyboardInterrupt:
            sys.exit("\ninterrupted; the same command goes on from the last checkpoint")

    return wrapped


TYPED_IN: list[int] = []
"""The process that the command was typed for."""
FAILED: list[str] = []
"""Numbers of the jobs of a sweep in this process that ended with an error; the others are done all the same."""


def _one_of_several() -> bool:
    """Whether this is a job of a sweep in the process of the command itself."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and [os.getpid()] == TYPED_IN


def _note_command() -> None:
    """A job of a sweep, which may run in another process or on another machine, is its own command."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        TYPED[:] = ["", *HydraConfig.get().overrides.task]


def _results(cfg: DictConfig) -> Path:
    """The folder of results, or the nearest one above it that is there."""
    folder = Path(cfg.get("out") or cfg.get("run") or cfg.paths.root).absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _set_threads(cfg: DictConfig) -> None:
    """As the option ``threads`` says, of commands that have it; more than these would end in a segmentation fault."""
    threads, most = cfg.get("threads"), MOST_THREADS * (os.cpu_count() or 1)
    if threads is None:
        return
    if not 1 <= threads <= most:
        raise ValueError(f"threads={threads}: accepted are 1 to {most}, {MOST_THREADS} for each of {os.cpu_count()} cores")
    torch.set_num_threads(threads)


def _check_overrides(config_name: str, arguments: list[str]) -> None:
    """Exit with the accepted names where an override names an option or a choice that does not exist."""
    overrides = [a.split("=", 1) for a in arguments if "=" in a and not a.startswith(("-", "+", "~", "hydra"))]
    groups = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in CONFIGS.iterdir() if folder.is_dir()}
    groups["env"] += OWN_ENVS
    text = (CONFIGS / f"{config_name}.yaml").read_text()
    mandatory = {name for name in groups if f"- {name}: ???" in text}
    for name in sorted(mandatory - {key for key, _ in overrides}):
        if not {"--help", "-h", "--cfg", "-c", "--info", "-i"} & set(arguments):
            sys.exit(f"error: say which {name}: {name}={'|'.join(groups[name])}")
        sys.argv.append(f"{name}={groups[name][0]}")  # for show
    for key, value in overrides:
        if key in groups and value not in groups[key] and "," not in value:
            sys.exit(f"error: unknown {key} {value!r}; accepted: {', '.join(groups[key])}")
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        chosen = [f"{key}={value}" for key, value in overrides if key in groups and "," not in value]
        chosen += [f"{name}={groups[name][0]}" for name in mandatory if not any(c.startswith(f"{name}=") for c in chosen)]
        config = hydra.compose(config_name, chosen)
    for key, given in overrides:
        if key in groups:
            continue
        node: Any = config
        for depth, part in enumerate(key.split(".")):
            if not isinstance(node, DictConfig) or part not in node:
                parent = ".".join(key.split(".")[:depth])
                accepted = [str(name) for name in node] if isinstance(node, DictConfig) else []
                where = f"in {parent}" if parent else "on the top level"
                sys.exit(f"error: unknown option {key!r}; accepted {where}: {', '.join(n for n in accepted if n != '_target_')}")
            node = node._get_node(part)
        try:
            default = OmegaConf.select(config, key)
        except OmegaConfBaseException:  # it interpolates what is known later
            continue
        _check_type(key, given, default)


def _check_type(key: str, given: str, default: Any) -> None:
    """Exit where an option is given as another kind of value than its default is."""
    try:
        override = OverridesParser.create().parse_override(f"{key}={given}")
    except HydraException:
        return  # Hydra says what is wrong with it
    value = override.value()
    if override.is_sweep_override() or "${" in given or (value is None and default is None):
        return
    kinds = {
        bool: ("true or false", lambda: isinstance(value, bool)),
        int: ("an integer", lambda: isinstance(value, int) and not isinstance(value, bool)),
        float: ("a number", lambda: isinstance(value, int | float) and not isinstance(value, bool)),
        ListConfig: ("a list, as in [1,2]", lambda: isinstance(value, list)),
    }
    what, fits = kinds.get(type(default), ("", lambda: True))
    if not fits():
        sys.exit(f"error: {key} has to be {what}, not {given!r}")
