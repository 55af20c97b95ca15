/*
 * timeout.c: the earliest deadline of all; hands back what expired.
 *
 * A binary heap of timers that live inside what they time. A deadline that
 * moves away, as one does with every byte relayed, is only noted in the
 * timer: its old place in the heap is looked at again when that comes up.
 * Has no clock of its own.
 */
#include <stdlib.h>

#include "zfpm.h"

static struct timer	**heap;
static int		 heap_len, heap_size;

static void
place(struct timer *t, int slot)
{
	heap[slot] = t;
	t->slot = slot;
}

static void
sift_up(struct timer *t, int slot)
{
	int up;

	while (slot > 0 && heap[up = (slot - 1) / 2]->key_ms > t->key_ms) {
		place(heap[up], slot);
		slot = up;
	}
	place(t, slot);
}

static void
sift_down(struct timer *t, int slot)
{
	int down;

	while ((down = 2 * slot + 1) < heap_len) {
		if (down + 1 < heap_len && heap[down + 1]->key_ms < heap[down]->key_ms)
			down++;
		if (t->key_ms <= heap[down]->key_ms)
			break;
		place(heap[down], slot);
		slot = down;
	}
	place(t, slot);
}

void
timeout_init(struct timer *t, enum timer_kind kind)
{
	t->kind = kind;
	t->slot = -1;
	t->key_ms = t->due_ms = 0;
}

int
timeout_arm(struct timer *t, int64_t due_ms)
{
	struct timer **p;
	int size;

	t->due_ms = due_ms;
	if (t->slot != -1) {
		if (due_ms < t->key_ms) {
			t->key_ms = due_ms;
			sift_up(t, t->slot);
		}
		return 0;
	}
	if (heap_len == heap_size) {
		size = heap_size == 0 ? 256 : 2 * heap_size;
		if ((p = realloc(heap, (size_t)size * sizeof(*p))) == NULL)
			return -1;
		heap = p;
		heap_size = size;
	}
	t->key_ms = due_ms;
	sift_up(t, heap_len++);
	return 0;
}

void
timeout_disarm(struct timer *t)
{
	t->due_ms = 0;
}

void
timeout_remove(struct timer *t)
{
	struct timer *last;
	int slot = t->slot;

	t->due_ms = 0;
	if (slot == -1)
		return;
	t->slot = -1;
	last = heap[--heap_len];
	if (last == t)
		return;
	if (slot > 0 && heap[(slot - 1) / 2]->key_ms > last->key_ms)
		sift_up(last, slot);
	else
		sift_down(last, slot);
}

struct timer *
timeout_pop(int64_t now_ms)
{
	struct timer *t;

	while (heap_len > 0 && (t = heap[0])->key_ms <= now_ms) {
		if (t->due_ms > now_ms) {
			t->key_ms = t->due_ms;
			sift_down(t, 0);
			continue;
		}
		if (t->due_ms == 0) {
			timeout_remove(t);
			continue;
		}
		timeout_remove(t);
		return t;
	}
	return NULL;
}

int64_t
timeout_next(void)
{
	return heap_len == 0 ? 0 : heap[0]->key_ms;
}
