"""The recovery passphrase: twelve words of a list, so that paper and voice carry it, with a checksum for mistakes.

Words and checksum are those of BIP 39 (github.com/bitcoin/bips, bip-0039): 128 random bits.
"""

from __future__ import annotations

import difflib

from mnemonic import Mnemonic

from omega.core.errors import Failure

WORDS = 12
_STRENGTH = 128


def new() -> str:
    """Return a new passphrase: WORDS words, separated by blanks."""
    return Mnemonic("english").generate(_STRENGTH)


def read(text: str) -> str:
    """Return a passphrase as it was made, from text as a person types it.

    :raises Failure: a word is not of the list, their number is wrong, or the checksum is: it names the word's place
    """
    machine, words = Mnemonic("english"), text.lower().split()
    for place, word in enumerate(words, 1):
        if word not in machine.wordlist:
            near = difflib.get_close_matches(word, machine.wordlist, 1)
            hint = f": is it `{near[0]}`?" if near else ""
            raise Failure(f"word {place} of the recovery phrase is not in the list{hint}", "compare it with the kit")
    if len(words) != WORDS:
        raise Failure(f"the recovery phrase has {WORDS} words, {len(words)} are given", "compare it with the kit")
    if not machine.check(" ".join(words)):
        cause = "the recovery phrase's checksum is wrong: a word is another one, or two have changed places"
        raise Failure(cause, "compare it with the kit, word by word")
    return " ".join(words)
