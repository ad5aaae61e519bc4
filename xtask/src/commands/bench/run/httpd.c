/* The yardstick's web server: the answer that kv gives to `GET /`, from one thread around epoll, which is the most
 * that one CPU has to give. It reads no more of a request than where it ends, and whether the connection ends too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 2\r\n"

static const char KEEP[] = HEAD "\r\nok";
static const char LAST[] = HEAD "connection: close\r\n\r\nok";

static void answer(int connection)
{
	char request[8192];
	ssize_t length = read(connection, request, sizeof request);
	if (length > 0 && memmem(request, length, "\r\n\r\n", 4)) {
		int last = memmem(request, length, "connection: close", 17) != NULL;
		size_t size = last ? sizeof LAST - 1 : sizeof KEEP - 1;
		if (write(connection, last ? LAST : KEEP, size) == (ssize_t)size && !last)
			return;
	}
	close(connection);
}

int main(int argc, char **argv)
{
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 80) };
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 128)
	    || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event))
		return perror("httpd"), 1;
	puts("listening");
	fflush(stdout);
	for (;;) {
		struct epoll_event ready[64];
		int count = epoll_wait(poll, ready, 64, -1);
		for (int at = 0; at < count; at++) {
			if (ready[at].data.fd != listener) {
				answer(ready[at].data.fd);
				continue;
			}
			int connection = accept(listener, NULL, NULL);
			struct epoll_event next = { .events = EPOLLIN, .data.fd = connection };
			setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			epoll_ctl(poll, EPOLL_CTL_ADD, connection, &next);
		}
	}
}
