"""The one naming function: it turns a person's name for a model into one that every system accepts.

Registered model names, Kubernetes labels and object names, and the folders of registered models are all made here.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from visionloop.core.errors import InvalidConfig

#: Longest label value in Kubernetes (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/).
LONGEST = 63

_DIGEST_LENGTH = 8


def sanitise(name: str, *, what: str = "--model-name", longest: int = LONGEST) -> str:
    """A name in lowercase letters, digits and single hyphens, starting and ending with a letter or digit.

    A name that is too long is cut and ends with eight hex digits over all of it, so two long names stay different. The
    function leaves its own results unchanged.

    Args:
        name: What a person gave; accents are dropped, everything else except a to z and digits becomes a hyphen.
        what: The argument named in the error.
        longest: Maximum length of the result, at least 10; less than 63 where a prefix or version is added.

    Raises:
        InvalidConfig: If nothing is left of the name.
    """
    decomposed = unicodedata.normalize("NFKD", name).lower()
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    clean = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not clean:
        raise InvalidConfig(
            f"{what} {name!r}: nothing is left of it in lowercase letters, digits and hyphens; give a name with some of a to z or 0 to 9."
        )
    if len(clean) <= longest:
        return clean
    digest = hashlib.sha256(clean.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{clean[: longest - _DIGEST_LENGTH - 1].rstrip('-')}-{digest}"
