"""The signature over a model's files, as OpenSSF Model Signing has it: ``model.sig``, a Sigstore bundle by a key of the user's own.

https://github.com/sigstore/model-transparency. Only keys: nothing is asked of a server, and nothing is published.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from visionloop.components.register.exports import FOLDER
from visionloop.core import secrets
from visionloop.core.errors import InvalidConfig, InvalidReceipt
from visionloop.core.packages import not_installed
from visionloop.core.policy import SIGNING_FILE_VARIABLE

#: The signature's file in the model's folder.
FILE = "model.sig"

#: The key that signs: the path of a PEM file, or a PKCS #11 URI (RFC 7512).
VARIABLE = "VISIONLOOP_SIGNING_KEY"

#: How such a URI begins.
PKCS11 = "pkcs11:"

#: How a PEM file begins, which some put into the variable itself.
_PEM = "-----BEGIN"

_KINDS = "an elliptic key on P-256, P-384 or P-521, without a password"


@dataclass(frozen=True)
class Key:
    """A key that is ready to sign; nothing of it is ever shown."""

    _signing: Any

    def sign(self, folder: Path) -> None:
        """Signs the files of a model's folder, and writes the signature beside them.

        Raises:
            InvalidConfig: If the key can't sign.
        """
        from model_signing import hashing

        # What a later run exports lies beside the files of the same version.
        files = hashing.Config().set_ignored_paths(paths=[FILE, FOLDER], ignore_git_paths=False)
        try:
            self._signing.set_hashing_config(files).sign(folder, folder / FILE)
        except Exception as error:  # noqa: BLE001 - a module's own errors too; their texts may show a PIN
            raise InvalidConfig(
                f"{VARIABLE}: the key can't sign ({type(error).__name__}); give another one, or none."
            ) from None


def key(environment: Mapping[str, str]) -> Key | None:
    """The key that an environment names; None where it names none.

    Raises:
        InvalidConfig: If it can't be used, or the library is not installed. The sentence does not say what the variable holds:
            it may be the key itself, or a PIN.
    """
    given = environment.get(VARIABLE, "").strip() or _mounted(environment)
    if not given:
        return None
    if _PEM in given:
        secrets.remember(given)
        raise InvalidConfig(
            f"{VARIABLE} holds a key; put it into a file that register alone can read, and give its path."
        )
    try:
        from model_signing import signing

        if given.startswith(PKCS11):
            return Key(_of_module(signing.Config(), given))
    except ImportError as error:
        raise not_installed(error, f"{VARIABLE}", "pkcs11" if given.startswith(PKCS11) else "signing") from error
    path = Path(given)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a device or a pipe may never end
            raise InvalidConfig(f"{VARIABLE}: not a file; give the path of a PEM file.")
        path.read_bytes()
    except OSError as error:
        raise InvalidConfig(
            f"{VARIABLE}: the file can't be read ({error.strerror}); give the path of a PEM file with a private key."
        ) from None
    try:
        return Key(signing.Config().use_elliptic_key_signer(private_key=path))
    except Exception:  # noqa: BLE001 - each library below has errors of its own, whose texts may show what was read
        raise InvalidConfig(
            f"{VARIABLE}: not the PEM file of a private key that can sign; give one of {_KINDS}."
        ) from None


def _mounted(environment: Mapping[str, str]) -> str:
    """The key that a pod has from its Secret; empty where there is no such Secret. Raises InvalidConfig."""
    if not (stated := environment.get(SIGNING_FILE_VARIABLE, "")):
        return ""
    path = Path(stated)
    if path.exists():
        return stated
    # What Kubernetes keeps there begins with two dots; the Secret's own keys do not.
    if path.parent.is_dir() and any(not entry.name.startswith("..") for entry in path.parent.iterdir()):
        raise InvalidConfig(
            f"The Secret of the key that signs models has no {path.name}; put the PEM file there under this name."
        )
    return ""


def _of_module(config: Any, uri: str) -> Any:
    """A configuration that signs with a key in a hardware module. Raises ImportError, and InvalidConfig."""
    for parameter in uri.partition("?")[2].split("&"):
        name, _, value = parameter.partition("=")
        if name == "pin-value":
            secrets.remember(value)
            secrets.remember(unquote(value))
    try:
        return config.use_pkcs11_signer(pkcs11_uri=uri)
    except ImportError:
        raise
    except Exception as error:  # noqa: BLE001 - as above; a URI's text may hold a PIN
        raise InvalidConfig(
            f"{VARIABLE}: the module or its key can't be opened ({type(error).__name__}); correct module-path, token, object or id, and the PIN of the PKCS #11 URI."
        ) from None


def verify(folder: Path, public_key: Path, uri: str) -> None:
    """Checks the signature beside a model's files against these files and a key.

    Args:
        folder: The files, with the signature.
        public_key: The PEM file of the public key.
        uri: Where the signature lies, for the sentence.

    Raises:
        InvalidConfig: If the key can't be used, or the library is not installed.
        InvalidReceipt: If it is no signature of these files by this key.
    """
    try:
        from model_signing import verifying
    except ImportError as error:
        raise not_installed(error, "--public-key", "signing") from error
    if not public_key.is_file():
        raise InvalidConfig(f"--public-key {public_key}: no such file; give the PEM file of a public key.")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        raise InvalidConfig(
            f"--public-key {public_key}: not the PEM file of a public key; give that of {_KINDS.partition(',')[0]}."
        ) from error
    try:
        config.verify(folder, folder / FILE)
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InvalidReceipt(
            f"{uri} is no signature of these files by the key in {public_key} ({said}); give the key that signed them, or register "
            f"the model again with --force register and {VARIABLE}."
        ) from error
