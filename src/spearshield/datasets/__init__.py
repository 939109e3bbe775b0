"""Data sets, one per file. The file's name is the data set's name.

Files are looked for in ``--data-dir``, then in ``$SPEARSHIELD_DATA``, then in the user's cache
(``$XDG_CACHE_HOME/spearshield``, else ``~/.cache/spearshield``); in each of them first in a folder
with the data set's name, then in the folder itself. What is nowhere and is published somewhere is
downloaded to the cache. See :mod:`spearshield.storage.downloads`.
"""
