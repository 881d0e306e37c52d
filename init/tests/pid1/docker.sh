#!/bin/sh
# In place of docker: notes how it is called; udev has looked at all devices at once.
echo "docker $*" >> /out/events
case "$*" in *' run '*' lazarette/udev') mkdir -p /run/udev; : > /run/udev/lazarette-settled ;; esac
