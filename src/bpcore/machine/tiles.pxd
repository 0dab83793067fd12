"""Samples in the lanes: how a chunk of samples is cut into tiles."""

from bpcore.machine.types cimport GROUP_VECS, LANES, MAX_TILES, MAX_ROWS, TILE_ROWS, TILE_VECS


# A chunk of samples is cut into tiles of at most TILE_VECS vectors; every array over a chunk,
# with n features, lies tile after tile, and within a tile as [n][lanes of the tile]. Where threads share a chunk, those
# of one member may be some of the chunk's tiles, or none; n_rows and n_lanes are the chunk's then.
cdef struct Tiles:
    int n_tiles
    Py_ssize_t n_rows  # samples
    Py_ssize_t n_lanes  # n_rows rounded up to whole vectors
    Py_ssize_t start[MAX_TILES]  # first lane
    int vecs[MAX_TILES]
    Py_ssize_t rows[MAX_TILES]  # samples in the tile

cdef inline int tile_width(Py_ssize_t vecs_left) noexcept nogil:
    """How many vectors the next tile takes: as few tiles as can be, of nearly equal width unless groups forbid it."""
    cdef Py_ssize_t n_tiles = (vecs_left + TILE_VECS - 1) // TILE_VECS
    if GROUP_VECS > 1 or n_tiles == 1:
        return <int> min(vecs_left, <Py_ssize_t> TILE_VECS)
    return <int> ((vecs_left + n_tiles - 1) // n_tiles)

cdef inline int block_rows(int n_vecs) noexcept nogil:
    """How many rows of so many vectors fit into the registers."""
    return TILE_ROWS if n_vecs == TILE_VECS else MAX_ROWS

cdef inline void cut_tiles(Tiles *tiles, Py_ssize_t n_rows, bint splits_short_tile) noexcept nogil:
    """Tiles for n_rows samples. splits_short_tile: those beyond the last whole vector get one of their own.

    If they fill at most a quarter of a vector: with more it would not pay, though `units.pxd` takes up to half a vector
    where a tile has no more.
    """
    cdef Py_ssize_t n_short = n_rows % LANES if splits_short_tile and n_rows % LANES <= LANES // 4 else 0
    cdef Py_ssize_t vecs_left = (n_rows - n_short + LANES - 1) // LANES, start = 0
    cdef int t = 0
    tiles.n_rows = n_rows
    tiles.n_lanes = (n_rows + LANES - 1) // LANES * LANES
    while start < n_rows:
        tiles.start[t] = start
        tiles.vecs[t] = tile_width(vecs_left) if vecs_left > 0 else 1
        vecs_left -= tiles.vecs[t]
        if n_short > 0 and vecs_left == 0 and (tiles.vecs[t] == 1 or tiles.vecs[t] % GROUP_VECS > 0):
            tiles.vecs[t] += 1  # one vector by itself takes as long as two, and tiles end at a group
        start += tiles.vecs[t] * LANES
        tiles.rows[t] = min(n_rows, start) - tiles.start[t]
        t += 1
    tiles.n_tiles = t
