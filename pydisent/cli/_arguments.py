"""Arguments that several commands read alike."""

from collections.abc import Sequence


def key_values(settings: Sequence[str], option: str) -> dict[str, str]:
    """Return {key: value} of the "key=value" texts that an option was given."""
    pairs: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"{option} got {setting!r}; accepted: KEY=VALUE")
        if key in pairs:
            raise ValueError(f"{option} got {key} twice; accepted: each key once")
        pairs[key] = value
    return pairs


def listed(text: str) -> tuple[str, ...]:
    """Return the parts of a text with commas between them."""
    return tuple(part.strip() for part in text.split(","))


def seed_list(text: str) -> tuple[int, ...]:
    """Return the seeds of a text with commas between them."""
    try:
        return tuple(int(part) for part in listed(text))
    except ValueError:
        raise ValueError(f"seeds is {text!r}; accepted: integers, such as 0,1,2") from None


def set_threads(threads: int | None) -> None:
    """Let this process compute with so many CPU threads, or with as many as before."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads is {threads}; accepted: an integer >= 1")
    import torch

    torch.set_num_threads(threads)
