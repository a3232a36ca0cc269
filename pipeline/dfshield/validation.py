"""What pydantic finds wrong, in the words of our own errors."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Return the first problem of a validation in one line: the key and what is wrong with it."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'content'}: {problem['msg']}"
