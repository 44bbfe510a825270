/* The only process of the emulated machine: runs the program that /arguments names, one word a line, says how it ended on
   the serial console, and switches the machine off. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  int console = open("/dev/console", O_RDWR);
  for (int stream = 0; console >= 0 && stream < 3; stream++) dup2(console, stream);

  static char text[16384];
  char *arguments[256] = {NULL};
  FILE *file = fopen("/arguments", "r");
  size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
  text[length] = 0;
  int count = 0;
  for (char *word = strtok(text, "\n"); word && count < 255; word = strtok(NULL, "\n")) arguments[count++] = word;

  setenv("HOME", "/tmp", 1);
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    if (count) execv(arguments[0], arguments);
    perror("the program does not start");
    _exit(127);
  }
  while (waitpid(child, &status, 0) != child) {}
  printf("\nended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  fflush(stdout);
  sleep(1);

  /* Bochs ends when its port 0x8900 is sent this word. */
  if (iopl(3) == 0) {
    for (const char *letter = "Shutdown"; *letter; letter++) outb(*letter, 0x8900);
  }
  for (;;) pause();
}
