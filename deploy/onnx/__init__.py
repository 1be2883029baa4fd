"""ONNX: conversion, the spec inside the file, and the runtime."""
