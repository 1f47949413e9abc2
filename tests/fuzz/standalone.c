// SPDX-License-Identifier: MIT
/*
 * For compilers without libFuzzer: runs the files of a folder through a fuzz
 * target, then a number of mutations of them, the same every time.
 *
 * usage: TARGET FOLDER MUTATIONS [SEED]
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 512
#define SIZE_MAX_INPUT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	uint8_t bytes[SIZE_MAX_INPUT];
	size_t size;
} files[FILES_MAX];
static unsigned int file_count;
static uint64_t random_state;

/* xorshift64*, Vigna 2016 */
static uint32_t random32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL >> 32;
}

static uint32_t below(uint32_t limit)
{
	return limit ? random32() % limit : 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_files(const char *folder)
{
	struct dirent **names;
	int count = scandir(folder, &names, NULL, by_name);

	for (int i = 0; i < count; i++) {
		char path[1024];
		FILE *file;

		snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
		if (names[i]->d_name[0] != '.' && file_count < FILES_MAX && (file = fopen(path, "rb"))) {
			files[file_count].size = fread(files[file_count].bytes, 1, SIZE_MAX_INPUT, file);
			file_count++;
			fclose(file);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
}

static size_t insert(uint8_t *to, size_t size, size_t at, const uint8_t *bytes, size_t count)
{
	if (count > SIZE_MAX_INPUT - size)
		count = SIZE_MAX_INPUT - size;
	memmove(to + at + count, to + at, size - at);
	memmove(to + at, bytes, count);
	return size + count;
}

static size_t mutate(uint8_t *to, size_t size)
{
	static const uint8_t odd[] = {0,  1,  2,  3,  4,    5,	  6,	8,    20,  34,	40,
				      44, 51, 58, 60, 0x45, 0x60, 0x7f, 0x80, 253, 254, 255};
	size_t at = below(size), count = 1 + below(8);
	uint8_t bytes[16];

	switch (size ? below(8) : 5) {
	case 0:
		to[at] ^= 1 << below(8);
		return size;
	case 1:
		to[at] = random32();
		return size;
	case 2:
		to[at] = odd[below(sizeof(odd))];
		return size;
	case 3:
		return at;
	case 4:
		if (count > size - at)
			count = size - at;
		memmove(to + at, to + at + count, size - at - count);
		return size - count;
	case 5:
		for (size_t i = 0; i < count; i++)
			bytes[i] = random32();
		return insert(to, size, at, bytes, count);
	case 6: {
		uint32_t other = below(file_count);
		size_t from = below(files[other].size);

		count = 1 + below(files[other].size - from);
		return insert(to, size, at, files[other].bytes + from, count);
	}
	default:
		to[at] += below(2) ? 1 : -1;
		return size;
	}
}

int main(int argc, char **argv)
{
	unsigned long mutations = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	random_state = argc > 3 ? strtoull(argv[3], NULL, 10) : 0x123456789abcdef1ULL;
	if (argc > 1)
		read_files(argv[1]);
	if (!file_count || !random_state) {
		fprintf(stderr, "usage: %s FOLDER-WITH-FILES MUTATIONS [SEED]\n", argv[0]);
		return 2;
	}
	for (unsigned int i = 0; i < file_count; i++)
		LLVMFuzzerTestOneInput(files[i].bytes, files[i].size);
	for (unsigned long i = 0; i < mutations; i++) {
		uint32_t file = below(file_count);
		uint8_t bytes[SIZE_MAX_INPUT];
		size_t size = files[file].size;

		memcpy(bytes, files[file].bytes, size);
		for (unsigned int n = 1 + below(6); n; n--)
			size = mutate(bytes, size);
		LLVMFuzzerTestOneInput(bytes, size);
	}
	printf("files=%u mutations=%lu\n", file_count, mutations);
	return 0;
}
