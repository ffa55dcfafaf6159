"""What became of each input, by name: for the manifest and its list.

An account is a JSON value, one line of the list `inputs.jsonl`:

  file          as `listing.InputFile.key`, or the name of what is no data
  outcome       used, rejected, missing (named, but not there), hidden (its
                name begins with a dot) or annotations
  reason        why nothing, or not all, was used
  clips         number of clips stored
  frames        number of frames read, at the rate asked for
  fps           that rate, or the file's own
  images        number of images in a folder of frames
  cuts, damage  places {time, frame, reason}: seconds and frames from the start
  deinterlaced  number of frames whose two fields were made one picture
"""
from collections.abc import Iterable
import dataclasses
import json
import os
from typing import Any

from walt_jax.data.prepare import listing
from walt_jax.media import frame_folders
from walt_jax.media import video_info

LIST = 'inputs.jsonl'

Account = dict[str, Any]

_USED, _REJECTED, _MISSING = 'used', 'rejected', 'missing'
_PLACES_SAID = 3  # Of one file, in a line for people.


def of_file(key: str, *, clips: int, frames: int, reason: str,
            info: video_info.VideoInfo | None) -> Account:
  """The account of a file that was tried.

  Args:
    key: The file's name, with its segment.
    clips: How many clips it gave.
    frames: How many frames of it were read.
    reason: Why no more could be had of it; '' when all was read.
    info: What its reader told in the end; None of one that was not opened.
  """
  account: Account = dict(
      file=key, outcome=_USED if clips else _REJECTED, clips=clips,
      frames=frames)
  if reason:
    account['reason'] = reason
  if info is not None:
    account['fps'] = info.fps
    if info.container == frame_folders.CONTAINER:
      account['images'] = info.frames
    for name in ('cuts', 'damage'):
      places = getattr(info, name)
      if places:
        account[name] = [dataclasses.asdict(place) for place in places]
    if info.deinterlaced:
      account['deinterlaced'] = info.deinterlaced
  return account


def untried(rejected: Iterable[listing.Rejection],
            hidden: Iterable[str] = (), annotations: Iterable[str] = ()
            ) -> list[Account]:
  """Accounts of what could not be tried, and of what is no data."""
  return [
      *(dict(file=entry.file, outcome=_REJECTED, reason=entry.reason)
        for entry in rejected),
      *(dict(file=name, outcome='hidden') for name in hidden),
      *(dict(file=name, outcome='annotations') for name in annotations)]


def complete(found: listing.Listing, tried: Iterable[Account]
             ) -> list[Account]:
  """All accounts of an input, in the order of names."""
  accounts = [
      *tried, *untried(found.rejected, found.hidden, found.annotations),
      *(dict(file=entry.file, outcome=_MISSING, reason=entry.reason)
        for entry in found.missing)]
  return sorted(accounts, key=lambda account: (
      os.fsencode(account['file']), account.get('reason', '')))


def summary(accounts: list[Account]) -> dict[str, Any]:
  """The manifest's counts of files, and its lists of what was not plain.

  Args:
    accounts: All, as `complete` returns them.

  Returns:
    `counts`, where used + rejected = files, and the lists `rejected` (with
    what is missing), `damaged` (used in part), `cuts` and `deinterlaced`, and
    `frame_folders`: how many, and the rate that they were taken to have.
  """
  outcomes = [account['outcome'] for account in accounts]
  used = [account for account in accounts if account['outcome'] == _USED]
  damaged = [dict(file=account['file'], reason=_damage(account))
             for account in used if _damage(account)]
  cuts = [dict(file=account['file'], places=account['cuts'])
          for account in accounts if 'cuts' in account]
  deinterlaced = [dict(file=account['file'], frames=account['deinterlaced'])
                  for account in accounts if 'deinterlaced' in account]
  folders = [account for account in used if 'images' in account]
  tried = len(used) + outcomes.count(_REJECTED)
  return dict(
      counts=dict(
          files=tried, used=len(used), rejected=tried - len(used),
          damaged=len(damaged), missing=outcomes.count(_MISSING),
          hidden=outcomes.count('hidden'), with_cuts=len(cuts),
          deinterlaced=len(deinterlaced)),
      rejected=[dict(file=account['file'], reason=account['reason'])
                for account in accounts
                if account['outcome'] in (_REJECTED, _MISSING)],
      damaged=damaged, cuts=cuts, deinterlaced=deinterlaced,
      frame_folders=dict(
          count=len(folders),
          images=sum(folder['images'] for folder in folders),
          fps=folders[0]['fps'] if folders else None))


def to_lines(accounts: list[Account]) -> bytes:
  """The list as it is written."""
  return b''.join(json.dumps(account).encode() + b'\n'
                  for account in accounts)


def _damage(account: Account) -> str:
  """What is lost of a file that was used, in a line; '' if nothing is."""
  places = account.get('damage', [])
  said = [str(video_info.Place(**place)) for place in places[:_PLACES_SAID]]
  if len(places) > _PLACES_SAID:
    said.append(f'{len(places) - _PLACES_SAID} more places')
  if account.get('reason'):
    said.append(account['reason'])
  if not said:
    return ''
  return f'{"; ".join(said)}; kept {account["clips"]} clips'
